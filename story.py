"""What the log tells of a call; each line begins with its `[call_sid]`."""

from time import monotonic

from logs import log


class Story:
    """The log of one call, and the times of its present turn.

    Its methods are called under the call's lock, except `warn`, `fail` and `bug`.
    """

    def __init__(self, call_sid: str) -> None:
        """Tell of this call."""
        self._call_sid = call_sid
        self._times: list[float] = []  # last word said, transcript, first text of the reply

    def tell(self, words: str) -> None:
        """Tell what happened."""
        log.info("[%s] %s", self._call_sid, words)

    def warn(self, words: str) -> None:
        """Tell what somebody else did wrong, and the call survives."""
        log.warning("[%s] %s", self._call_sid, words)

    def fail(self, words: str) -> None:
        """Tell what the caller has to suffer."""
        log.error("[%s] %s", self._call_sid, words)

    def bug(self) -> None:
        """Tell of a bug of ours, with the traceback of the exception that is being handled."""
        log.exception("[%s] a bug in this program", self._call_sid)

    # --- the times of a turn --------------------------------------------------------------------

    def caller_speaks(self) -> None:
        """Forget the turn before."""
        self._times = []

    def caller_stopped(self, seconds_ago: float) -> None:
        """Note when the last word was said."""
        self._times = [monotonic() - seconds_ago]

    def workflow_asked(self) -> None:
        """Note when the words were known."""
        if len(self._times) == 1:
            self._times.append(monotonic())

    def reply_began(self) -> None:
        """Note when the first text of the reply came."""
        if len(self._times) == 2:
            self._times.append(monotonic())

    def sound_began(self) -> None:
        """Tell how long it took, in ms since the last word, once the reply's first sound comes."""
        if len(self._times) < 3:
            return
        spoken, transcript, text = self._times
        self._times = []
        self.tell(
            f"transcript {ms(spoken, transcript)} ms,"
            f" first text {ms(spoken, text)} ms,"
            f" first audio {ms(spoken, monotonic())} ms"
        )


def ms(since: float, until: float) -> int:
    """Return how many milliseconds passed."""
    return round((until - since) * 1000)
