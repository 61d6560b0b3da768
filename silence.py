"""For how long which kind of silence has lasted, and what is due in it."""

from itertools import cycle

from lines import Limits, Lines


class Stopwatch:
    """Measures for how long something has been so without a break."""

    def __init__(self) -> None:
        """Stand still."""
        self._since: float | None = None

    def stop(self) -> None:
        """Stand at 0."""
        self._since = None

    def run(self, so: bool, now: float) -> None:
        """Run on, or begin to, while it is so; else stop."""
        if not so:
            self.stop()
        elif self._since is None:
            self._since = now

    def seconds(self, now: float) -> float:
        """Return for how long it has been so."""
        if self._since is None:
            return 0.0
        return now - self._since


class Silence:
    """What is due in which silence. All of it is derived: no timer is armed or cancelled."""

    def __init__(self, lines: Lines, limits: Limits) -> None:
        """Have nobody silent yet."""
        self.unanswered = Stopwatch()  # the caller hears nothing, and is owed something
        self.unsaid = Stopwatch()  # the same, since the voice could have ended it
        self.voiceless = Stopwatch()  # the caller hears nothing, and there is no session
        self.idle = Stopwatch()  # nobody owes anybody anything; noises don't matter
        self.filled = False  # the last thing said was a filler
        self.prompted = False  # the caller was asked whether they are there
        self._limits = limits
        self._fillers = cycle(lines.fillers)

    def break_off(self) -> None:
        """Begin anew: the caller has been heard."""
        self.unanswered.stop()
        self.unsaid.stop()

    def unbearable(self, now: float) -> bool:
        """Whether somebody else must explain it to the caller."""
        limits = self._limits
        if self.voiceless.seconds(now) >= limits.patience:
            return True
        silent_too_long = self.unanswered.seconds(now) >= limits.patience
        return silent_too_long and self.unsaid.seconds(now) >= limits.chance

    def filler(self, now: float) -> str:
        """Return the next filler if one is due, else nothing."""
        wait = self._limits.filler_again if self.filled else self._limits.filler
        if self.unanswered.seconds(now) < wait:
            return ""
        self.filled = True
        return next(self._fillers, "")

    def prompt_due(self, now: float) -> bool:
        """Whether a silent caller is to be asked, or taken leave of."""
        return self.idle.seconds(now) >= self._limits.idle
