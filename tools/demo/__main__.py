"""Play one phone call through the real app and show it live: `python -m tools.demo [scenario]`.

The app runs as a process of its own, between a simulated Twilio and a simulated OpenAI. The caller
is a script with recorded speech; a real recogniser hears it in the sound that the app relayed, and
a real synthesizer speaks the replies. Writes `call.wav` (stereo: caller left, agent right),
`call.txt` and `call.png`, or `call-<scenario>.wav` and so on; exits with 1 if the call did not go
as scripted.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
import wave
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tools.app_process import DEFAULTS, eventually
from tools.demo.caller import PATIENCE, Caller
from tools.demo.notes import Notes, Page
from tools.demo.scenarios import SCENARIOS, Scenario
from tools.demo.voices import Voices
from tools.log_check import END_OF_CALL
from tools.phone import picture
from tools.phone.exchange import REAL_APP, SimulatedExchange
from tools.phone.tap import Json
from tools.phone.watch import CallWatch
from tools.phone.web import served
from tools.simulator.speech import Ears, ToneVoice, is_audible, pcm16_to_mulaw
from tools.simulator.twilio_network import Call, PhoneNetwork

TURNS = "{}; in {} of them the caller heard the reply before the workflow had written its last word"
CHECK = "listening to {} again, the ears make out {:.0%} of the agent's words"
PAGE_SECONDS = 600.0  # in which whoever wants to watch opens the page
RECORDED = "the caller: synthetic speech, made beforehand (tools/audio)"
SIMULATED = (
    "Twilio and the phone network; OpenAI Realtime, around the ears and the mouth; the workflow,"
    " a script that looks for words instead of a language model"
)


class Demo:
    """One scenario, from loading the ears to the last check."""

    def __init__(self, scenario: Scenario, stem: str, watched: bool) -> None:
        self.scenario, self.page = scenario, Page()
        self.wav, self.txt, self.png = (Path(f"{stem}.{kind}") for kind in ("wav", "txt", "png"))
        self.problems: list[str] = []
        print("Loading the ears and the mouth ...", flush=True)
        self.voices = Voices()
        self._watched = watched
        self._say_what_is_missing()

    def run(self) -> int:
        """Have the call, write its files, and return the exit code."""
        mouth = self.voices.mouth
        mouth.speak(DEFAULTS["GREETING"], 8000)  # the first is the slowest
        about = self.scenario
        exchange = SimulatedExchange(self.voices.ears, mouth, about.thinking, about.settings)
        with exchange, self._place_call(exchange) as watch:
            notes = self._have_call(exchange, watch.call)
        self._look_back(notes, exchange.network)
        self._draw(watch)
        self._say_what_is_real()
        for problem in self.problems:
            self.page.write()
            self.page.entry("!", f"not as scripted: {problem}")
        self.txt.write_text("\n".join(self.page.lines).strip() + "\n", "utf-8")
        return 1 if self.problems else 0

    @contextmanager
    def _place_call(self, exchange: SimulatedExchange) -> Iterator[CallWatch]:
        """Place the call; if it is to be watched, when the page's Call is pressed."""
        if not self._watched:
            yield exchange.call(show_nobody)
            return
        exchange.scripted = True
        with served(exchange) as server:
            print(
                f"\n  Watch it: {server.link}\n\nThe call begins when you press Call.", flush=True
            )
            watch = eventually(lambda: server.watch, "call from the page", PAGE_SECONDS)
            assert watch
            yield watch

    def _have_call(self, exchange: SimulatedExchange, call: Call) -> Notes:
        openai, app, desk = exchange.openai, exchange.app, exchange.desk
        assert app
        self.page.write(f"\n{self.scenario.about}. Each line appears when it has been heard.\n")
        with Notes(self.page, call, openai, app) as notes:
            caller = Caller(call, openai, desk, notes)
            try:
                caller.listens()
                self.scenario.play(caller)
                call.wait_ended(PATIENCE)
                ended = "app's word that the call has ended"
                call.wait_until(lambda _: re.search(END_OF_CALL, app.output), 5, ended)
            except AssertionError as error:  # the script waited for something in vain
                what, _, timeline = str(error).partition("\n")
                self.problems.append(what)
                print(timeline, file=sys.stderr)
                call.hang_up()
        if len(openai.brain.turns) != caller.messages or desk.puzzled:
            told = [turn.text for turn in openai.brain.turns]
            self.problems.append(f"{caller.messages} messages expected, and not {told}")
        if desk.cut_in != self.scenario.cuts_in:
            heard_of = "heard that the caller cut in" if desk.cut_in else "heard of no interruption"
            self.problems.append(f"the workflow {heard_of}")
        return notes

    def _draw(self, watch: CallWatch) -> None:
        """Write a picture of the call."""
        if not picture.AVAILABLE:
            self.page.entry("picture", picture.NOT_AVAILABLE)
            return
        turns = watch.stopwatch.turns
        self.png.write_bytes(picture.draw_call(self.wav.read_bytes(), turns, watch.barge_ins))
        self.page.entry("picture", f"{self.png}, with the times of each turn")

    def _look_back(self, notes: Notes, phone: PhoneNetwork) -> None:
        """Check what has come of the call, and write its recording."""
        turns = [turn for turn in notes.openai.brain.turns if turn.outcome == "completed"]
        early = [turn for turn in turns if notes.spoke_before_the_end_of(turn)]
        crashes = [line for line in notes.app.lines if line.startswith("Traceback")]
        self.problems += phone.refusals + notes.openai.refusals + crashes
        if len(turns) < self.scenario.turns:
            self.problems.append(f"only {len(turns)} turns")
        if not in_one_piece(self.scenario.hears, notes.heard):
            sentences = " ".join(self.scenario.hears)
            self.problems.append(f"the caller did not hear one after the other: {sentences}")
        if notes.call.end_reason != self.scenario.ended:
            self.problems.append(f"the call was to be {self.scenario.ended}")
        self.wav.write_bytes(notes.call.recording())
        caller, agent = channels(self.wav)
        for side, sound in (("caller", caller), ("agent", agent)):
            if seconds_of_sound(sound) < 1:
                self.problems.append(f"the {side}'s channel of {self.wav} is silent")
        seconds = f"{len(agent) / 16000:.0f} s"
        self.page.write()
        self.page.entry("turns", TURNS.format(len(turns), len(early)))
        self.page.entry("recording", f"{self.wav}, {seconds}: caller left, agent right")
        self.page.entry("transcript", str(self.txt))
        self._listen_again(agent, " ".join(notes.heard))

    def _listen_again(self, agent: bytes, text: str) -> None:
        """Check with the ears that the recording has the agent's words."""
        voices = self.voices
        ears: Ears | None = voices.real_ears if voices.real_mouth else ToneVoice()
        if ears:
            share = share_heard(text, ears.hear(agent, 8000))
            self.page.entry("check", CHECK.format(self.wav, share))
            if share < 0.5:
                self.problems.append("the agent's words can't be made out in the recording")

    def _say_what_is_real(self) -> None:
        told = [("real", REAL_APP), ("recorded", RECORDED), ("simulated", SIMULATED)]
        told += [("real", what) for what in self.voices.real]
        self.page.write()
        for kind, what in sorted(told):
            self.page.entry(kind, what)
        self._say_what_is_missing()

    def _say_what_is_missing(self) -> None:
        for what in self.voices.missing:
            self.page.entry("simulated", what)


def show_nobody(entry: Json) -> None:
    """Show it on no page."""


def in_one_piece(part: Sequence[str], whole: Sequence[str]) -> bool:
    """Tell whether `whole` has all of `part`, in its order and with nothing between."""
    return any(list(whole[at : at + len(part)]) == list(part) for at in range(len(whole)))


def channels(path: Path) -> tuple[bytes, bytes]:
    """Return the left and the right channel of a recording, PCM16."""
    with wave.open(str(path)) as wav:
        samples = array("h", wav.readframes(wav.getnframes()))
    return samples[::2].tobytes(), samples[1::2].tobytes()


def seconds_of_sound(pcm16: bytes) -> float:
    mulaw = pcm16_to_mulaw(pcm16)
    return sum(is_audible(mulaw[at : at + 160]) for at in range(0, len(mulaw), 160)) / 50


def share_heard(said: str, heard: str) -> float:
    """Return the share of the words said that were heard, in their order."""
    a, b = (re.findall(r"\w+", text.lower()) for text in (said, heard))
    blocks = difflib.SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks) / max(1, len(a))


def main() -> int:
    list_of = "\n".join(f"  {name:<13}{each.about}" for name, each in SCENARIOS.items())
    parser = argparse.ArgumentParser(
        prog="python -m tools.demo",
        description="Play one phone call through the real app.",
        epilog=f"scenarios:\n{list_of}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenario", nargs="?", default="booking", help="or list, which lists them")
    parser.add_argument("--watch", action="store_true", help="show it in a browser, too")
    options = parser.parse_args()
    name = options.scenario
    if name == "list":
        print(list_of)
        return 0
    if name not in SCENARIOS:
        print(f"There is no scenario {name!r}. There are:\n{list_of}", file=sys.stderr)
        return 2
    stem = "call" if name == "booking" else f"call-{name}"
    return Demo(SCENARIOS[name], stem, options.watch).run()


if __name__ == "__main__":
    sys.exit(main())
