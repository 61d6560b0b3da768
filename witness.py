"""What a conversation's rules notice, for whoever keeps a record of the call."""

from speech import Kind


class Witness:
    """Hear what the rules notice; nothing is to be done about it. This one forgets it all.

    Its methods run under the call's lock, and may not call back into the rules.
    """

    def sounds(self, kind: Kind) -> None:
        """Note that the first sound of a sentence goes to the caller."""

    def cuts_in(self, heard: str) -> None:
        """Note that the caller goes on before the reply is over, and what they heard of it."""

    def heard_out(self) -> None:
        """Note that nothing is left to be said, and no answer is owed."""

    def noise(self, seconds: float) -> None:
        """Note that what sounded like speech, for so many seconds, had no words."""

    def understands(self) -> None:
        """Note that what the caller said, or keyed in, is complete: the workflow is asked next."""

    def not_understood(self) -> None:
        """Note that the caller spoke, and nothing of it was understood."""

    def apologises(self) -> None:
        """Note that the caller is told that something went wrong."""

    def prompts(self) -> None:
        """Note that a silent caller is asked whether they are there."""

    def takes_leave(self, why: str) -> None:
        """Note that the line ends the call by itself."""

    def repeats(self, why: str) -> None:
        """Note that a sentence is said again, since the voice failed."""
