"""For how long which kind of silence has lasted, and what is due in it."""

from itertools import cycle

from lines import Limits, Lines


class Stopwatch:
    """Adds up for how long something has been so."""

    def __init__(self) -> None:
        """Stand at 0."""
        self._total = 0.0
        self._since: float | None = None  # it has been running, if it is

    def reset(self) -> None:
        """Stand at 0."""
        self._total = 0.0
        self._since = None

    def run(self, so: bool, now: float) -> None:
        """Run while it is so, and pause while it isn't."""
        if so and self._since is None:
            self._since = now
        elif not so:
            self._total = self.seconds(now)
            self._since = None

    def run_unbroken(self, so: bool, now: float) -> None:
        """Run while it is so, and begin anew after a break."""
        if so:
            self.run(so, now)
        else:
            self.reset()

    def seconds(self, now: float) -> float:
        """Return for how long it has been so."""
        if self._since is None:
            return self._total
        return self._total + now - self._since


class Silence:
    """What is due in which silence. All of it is derived: no timer is armed or cancelled."""

    def __init__(self, lines: Lines, limits: Limits) -> None:
        """Have nobody silent yet."""
        # What is owed ends these, not what merely sounds: a voice that fails makes sounds, too
        self.unanswered = Stopwatch()  # the caller hears nothing, and is owed something
        self.unsaid = Stopwatch()  # the same, since the voice could have ended it
        self.voiceless = Stopwatch()  # the caller hears nothing, and there is no session
        self.idle = Stopwatch()  # nobody owes anybody anything; noises don't matter
        self.filled = False  # the last thing said was a filler
        self.prompted = False  # the caller was asked whether they are there
        self._limits = limits
        self._fillers = cycle(lines.fillers)

    def break_off(self) -> None:
        """Begin anew: the caller has heard something, or is heard, or is owed nothing."""
        self.unanswered.reset()
        self.unsaid.reset()

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
