"""For how long which kind of silence has lasted, and what is due in it."""

from itertools import cycle

from hearing import Caller
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

    def run(self, running: bool, now: float) -> None:
        """Run on, or pause."""
        if running and self._since is None:
            self._since = now
        elif not running:
            self._total = self.seconds(now)
            self._since = None

    def run_unbroken(self, running: bool, now: float) -> None:
        """Run on, or stop and begin anew."""
        if running:
            self.run(running, now)
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
        """Begin with no silence."""
        self.filled = False  # the last thing said was a filler
        self.prompted = False  # the caller was asked whether they are there
        # Sound alone only pauses these two; a sentence that was heard resets them. A failing voice
        # makes sounds, too.
        self._unanswered = Stopwatch()  # the caller hears nothing, and is owed something
        self._unsaid = Stopwatch()  # the same, since the voice could have ended it
        self._voiceless = Stopwatch()  # the caller hears nothing, and there is no session
        self._idle = Stopwatch()  # nobody owes anybody anything; noises don't matter
        self._limits = limits
        self._fillers = cycle(lines.fillers)

    def measure(
        self,
        now: float,
        *,
        caller: Caller,
        sounding: bool,
        unsaid: bool,
        unanswered: bool,
        ready: bool,
    ) -> None:
        """Learn how things are now.

        Whether the caller hears something (`sounding`), whether sentences wait for the voice or to
        be heard (`unsaid`), whether the workflow owes an answer (`unanswered`), and whether the
        voice has a session (`ready`).
        """
        owed = unsaid or unanswered
        quiet = not sounding and caller is not Caller.SPEAKING
        if not owed and caller is Caller.SILENT:
            self.break_off()
        self._unanswered.run(quiet, now)
        if not quiet or (unsaid and caller is Caller.SILENT):
            self._unsaid.run(quiet, now)
        self._voiceless.run_unbroken(not sounding and not ready, now)
        self._idle.run_unbroken(not owed, now)

    def break_off(self) -> None:
        """Begin anew: the caller has heard something, or is heard, or is owed nothing."""
        self._unanswered.reset()
        self._unsaid.reset()

    def unbearable(self, now: float) -> bool:
        """Whether somebody else must explain it to the caller."""
        limits = self._limits
        if self._voiceless.seconds(now) >= limits.patience:
            return True
        silent_too_long = self._unanswered.seconds(now) >= limits.patience
        return silent_too_long and self._unsaid.seconds(now) >= limits.chance

    def filler_due(self, now: float) -> bool:
        """Whether the workflow's silence is to be bridged."""
        wait = self._limits.filler_again if self.filled else self._limits.filler
        return self._unanswered.seconds(now) >= wait

    def next_filler(self) -> str:
        """Return what bridges it; "" if there are no fillers."""
        self.filled = True
        return next(self._fillers, "")

    def prompt_due(self, now: float) -> bool:
        """Whether a silent caller is to be asked, or taken leave of."""
        return self._idle.seconds(now) >= self._limits.idle
