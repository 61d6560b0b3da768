"""`make phone` in a real browser: what its user sees and hears, and what the app's log says to it.

Skipped where there is no Chromium, and partly where there are no real ears. With
SCREENSHOTS=folder they leave pictures of what they see, to be looked at.
"""

from __future__ import annotations

import array
import importlib.util
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.browser import CHROMIUM, MICROPHONE, PhonePage, chromium, command
from tools.app_process import DEFAULTS
from tools.demo.caller import recording
from tools.log_check import END_OF_CALL
from tools.phone.exchange import SimulatedExchange
from tools.phone.web import served
from tools.simulator.phone_sound import wav_file
from tools.simulator.speech import ToneVoice
from tools.simulator.waiting import PATIENCE

MODELS = ["moonshine_voice", "hibari"]
MISSING = [name for name in MODELS if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.thorough("a browser, and whole calls"),
    pytest.mark.xdist_group("phone in a browser"),
    pytest.mark.skipif(not CHROMIUM, reason="there is no chromium (Debian: apt install chromium)"),
]
with_models = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
GREETING = DEFAULTS["GREETING"]
BRIDGE = DEFAULTS["BRIDGE"]
MOUTH_TO_EAR_MS = 60
CLICKS = 9
# Clicks are no words: the line would ask whether the caller is there, and then hang up
PATIENT = {"IDLE_SECONDS": "600"}
WIDE = {"width": 1180, "height": 900}
FOLDER = Path(os.environ["SCREENSHOTS"]) if "SCREENSHOTS" in os.environ else None


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    """What drives browsers; there can be only one."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - it may not be installed

    with sync_playwright() as driver:
        yield driver


@contextmanager
def talking_page(driver: Any, *arguments: str) -> Iterator[PhonePage]:
    """Open the page in a browser whose microphone says what a test has it say."""
    with command("tools.phone", *arguments) as (process, link), chromium(driver) as browser:
        context = browser.new_context(viewport=WIDE)
        context.add_init_script(MICROPHONE)
        page = PhonePage(context.new_page())
        page.open(link)
        yield page
        assert process.alive
        assert page.errors == []
        assert "Traceback" not in process.output


@pytest.fixture(scope="module")
def tab(driver: Any) -> Iterator[PhonePage]:
    """The page, with ears that know the recordings by heart: those are as quick as the app."""
    with talking_page(driver, "--no-models") as page:
        page.picture(FOLDER, "ready")
        yield page


@pytest.fixture
def call(tab: PhonePage) -> Iterator[PhonePage]:
    """A call that has been answered and greeted."""
    tab.press("Call")
    tab.wait_for_heard(GREETING)
    yield tab
    if not tab.status().startswith("Call over"):
        tab.press("Hang up")
    tab.wait_for_end()


def test_a_barge_in_is_struck_at_the_word(call: PhonePage) -> None:
    offer = "I have Tuesday at nine, Wednesday at eleven, and Thursday at two."
    call.ask("brake-inspection", offer)
    call.ask("tuesday-at-nine", "Tuesday at nine it is.")
    assert call.page.locator('[data-who="agent"] s').first.inner_text().strip()
    notes = [line for line in call.lines("workflow") if "[The caller cut in." in line]
    assert notes
    call.picture(FOLDER, "barge-in")


def test_the_keypad_works_by_mouse_and_by_keyboard(call: PhonePage) -> None:
    call.ask("cancel-appointment", "Please key in your customer number, and then the hash key.")
    call.press("4")
    for key in "711#":
        call.page.keyboard.press(key)
    call.wait_for_heard("Your appointment is cancelled.")
    assert call.lines("caller")[-5:] == [f"presses {key}" for key in "4711#"]
    call.wait_for_log(END_OF_CALL)


def test_the_app_is_killed_while_somebody_talks_and_it_goes_on(call: PhonePage) -> None:
    call.ask("thursday-afternoon", "On Thursday I have two o'clock and four o'clock.")
    call.press("Kill the app")
    call.wait_for_heard(BRIDGE)
    call.wait_for_log("call resumed")
    call.ask("later-one", "Four o'clock, then.")
    call.picture(FOLDER, "killed")


def test_mute_lets_nothing_through(call: PhonePage) -> None:
    call.press("Mute")
    call.say("later-one")
    assert call.sentences("caller", "said") == []
    call.press("Mute")
    call.ask("later-one", "Four o'clock, then.")


def test_it_fits_a_phones_screen_and_the_dark(call: PhonePage) -> None:
    call.ask("later-one", "Four o'clock, then.")
    call.page.set_viewport_size({"width": 390, "height": 844})
    call.page.emulate_media(color_scheme="dark")
    try:
        wide = call.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390
        call.picture(FOLDER, "small-dark")
    finally:
        call.page.set_viewport_size(WIDE)
        call.page.emulate_media(color_scheme="light")


def test_all_of_it_has_a_name_for_a_screen_reader(tab: PhonePage) -> None:
    unnamed = tab.page.evaluate(
        """[...document.querySelectorAll("button, canvas, [tabindex], [role=group]")]
        .filter((each) => !each.ariaLabel && !each.textContent.trim() &&
                !each.getAttribute("aria-labelledby"))
        .map((each) => each.outerHTML)"""
    )
    assert unnamed == []
    for role in ("status", "alert", "log"):
        assert tab.page.get_by_role(role).count() >= 1


# --- real ears ---------------------------------------------------------------------------------


@with_models
def test_a_whole_booking_by_voice(driver: Any) -> None:
    with talking_page(driver) as call:
        call.press("Call")
        call.wait_for_heard(GREETING)
        call.ask("thursday-afternoon", "On Thursday I have two o'clock and four o'clock.")
        call.ask("later-one", "Four o'clock, then.")
        call.ask("name-and-car", "Shall I book it?")
        call.picture(FOLDER, "booking")
        call.ask("yes-book-it", "Goodbye!")
        assert call.wait_for_end() == "completed by REST"
        call.picture(FOLDER, "over")
        assert "Can I book for next Thursday afternoon?" in call.sentences("caller", "said")
        assert any(line.startswith("after the last word: ") for line in call.lines("times"))
        call.wait_for_log(END_OF_CALL)
        for name in ("call.wav", "call.txt", "call.png"):
            assert call.page.get_by_role("link", name=name).is_visible()


@with_models
def test_a_demo_is_watched_on_the_same_page(driver: Any, tmp_path: Path) -> None:
    demo = command("tools.demo", "keypad", "--watch", cwd=tmp_path)
    with demo as (process, link), chromium(driver) as browser:
        page = PhonePage(browser.new_page(viewport=WIDE))
        page.open(link)
        page.press("Call")
        assert page.wait_for_end() == "completed by REST"
        page.wait(lambda: not process.alive, "end of the demo")
        assert "I would like to cancel my appointment." in page.sentences("caller", "said")
        assert "Customer number 4711." in page.sentences("agent", "heard")
        assert page.errors == []
    for kind in ("wav", "txt", "png"):
        assert (tmp_path / f"call-keypad.{kind}").stat().st_size > 500


# --- the browser's own microphone -------------------------------------------------------------


def capture(folder: Path, *parts: bytes) -> Path:
    """Write what a fake microphone hears, again and again."""
    file = folder / "capture.wav"
    file.write_bytes(wav_file(b"".join(parts)))
    return file


def silence(seconds: float) -> bytes:
    return bytes(2 * int(8000 * seconds))


@with_models
def test_what_a_real_microphone_hears_is_understood(driver: Any, tmp_path: Path) -> None:
    said = capture(tmp_path, silence(5), recording("thursday-afternoon"), silence(30))
    with command("tools.phone") as (_, link), chromium(driver, said) as browser:
        page = PhonePage(browser.new_page())
        page.open(link)
        page.press("Call")
        words = "Can I book for next Thursday afternoon?"
        page.wait(lambda: words in page.sentences("caller", "said"), words, 4 * PATIENCE)
        assert page.errors == []


# When clicks begin at both ends of the page's sound, in ms of one clock: what comes from the
# microphone, and what goes to the ear
RECORDER = """
const LOUD = 0.05, APART_MS = 500;
window.clicks = [[], []];
const connect = AudioNode.prototype.connect;
function record(context) {
  const both = new ChannelMergerNode(context, { numberOfInputs: 2 });
  const recorder = context.createScriptProcessor(4096, 2, 1);
  let passed = 0;
  connect.call(both, recorder);
  connect.call(recorder, context.destination);
  recorder.onaudioprocess = ({ inputBuffer }) => {
    for (const side of [0, 1]) {
      inputBuffer.getChannelData(side).forEach((sample, n) => {
        const at = 1000 * (passed + n) / context.sampleRate;
        const last = clicks[side].at(-1) ?? -APART_MS;
        if (Math.abs(sample) > LOUD && at - last > APART_MS) clicks[side].push(at);
      });
    }
    passed += inputBuffer.length;
  };
  return both;
}
AudioNode.prototype.connect = function (target, ...rest) {
  const context = this.context;
  if (this instanceof MediaStreamAudioSourceNode) {
    context.both = context.both ?? record(context);
    connect.call(this, context.both, 0, 0);
  }
  if (target === context.destination) {
    context.both = context.both ?? record(context);
    connect.call(this, context.both, 0, 1);
  }
  return connect.call(this, target, ...rest);
};
"""


def click() -> bytes:
    """Make a click of 10 ms: noise, which noise suppression has no time to learn."""
    noise = random.Random(1)
    return array.array("h", (noise.randint(-30000, 30000) for _ in range(80))).tobytes()


def delays(page: PhonePage) -> list[float]:
    """Return how many ms after it was said each click was heard."""
    said, heard = page.page.evaluate("clicks")
    return [min((at - begun for at in heard if at > begun), default=inf) for begun in said[:-2]]


def test_most_sound_is_60_ms_or_less_from_mouth_to_ear(driver: Any, tmp_path: Path) -> None:
    clicks = capture(tmp_path, silence(0.99), click())
    exchange = SimulatedExchange(ToneVoice(), ToneVoice(), settings=PATIENT)
    with exchange, served(exchange) as server, chromium(driver, clicks) as browser:
        context = browser.new_context()
        context.add_init_script(RECORDER)
        page = PhonePage(context.new_page())
        page.open(server.link)
        page.press("Call")
        page.wait_for_heard(GREETING)
        page.press("Hear yourself")
        page.page.evaluate("clicks.forEach((side) => side.length = 0)")

        def most_are_quick() -> bool:
            last = delays(page)[-CLICKS:]
            return len(last) == CLICKS and median(last) <= MOUTH_TO_EAR_MS

        # A busy machine may need some more clicks until it has a quiet moment
        page.wait(most_are_quick, f"{CLICKS} clicks in {MOUTH_TO_EAR_MS} ms", 4 * PATIENCE)
        print("mouth to ear:", [round(delay) for delay in delays(page)], "ms")
