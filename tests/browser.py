"""A real browser with the phone's page in it: Debian's Chromium, without a screen."""

from __future__ import annotations

import base64
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tools.app_process import DEFAULTS, HERE, Process, environment, eventually
from tools.demo.caller import recording
from tools.demo.receptionist import PUZZLED
from tools.simulator.phone_sound import wav_file
from tools.simulator.waiting import PATIENCE

T = TypeVar("T")

NOT_CAUGHT = {DEFAULTS["SAY_AGAIN"], DEFAULTS["IDLE_PROMPT"], PUZZLED.split(". ")[0] + "."}
CHROMIUM = shutil.which("chromium") or ""
ARGUMENTS = [
    "--no-sandbox",  # which Chromium insists on as root
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
]
# A microphone into which the test speaks when it likes
MICROPHONE = """
const context = new AudioContext();
const out = context.createMediaStreamDestination();
navigator.mediaDevices.getUserMedia = async () => out.stream.clone();
window.say = async (wav) => {
  const bytes = Uint8Array.from(atob(wav), (letter) => letter.charCodeAt(0));
  const buffer = await context.decodeAudioData(bytes.buffer);
  const source = new AudioBufferSourceNode(context, { buffer });
  source.connect(out);
  source.start();
  await new Promise((done) => { source.onended = done; });
};
"""


@contextmanager
def command(module: str, *arguments: str, cwd: Path = HERE) -> Iterator[tuple[Process, str]]:
    """Run a command that has a page; give its process and the link that it prints."""
    started = [sys.executable, "-u", "-m", module, *arguments]
    process = Process(started, environment({"PYTHONPATH": str(HERE)}), cwd=cwd)

    def link() -> str:
        assert process.alive, process.output
        found = re.search(r"http://127\.0\.0\.1:\S+", process.output)
        return found[0] if found else ""

    try:
        yield process, eventually(link, "link", 2 * PATIENCE)
    finally:
        process.stop()


@contextmanager
def chromium(driver: Any, capture: Path | None = None) -> Iterator[Any]:
    """Run a browser; `capture` is what its microphone hears, a WAV, again and again."""
    arguments = list(ARGUMENTS)
    if capture:
        arguments.append(f"--use-file-for-fake-audio-capture={capture}")
    browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
    try:
        yield browser
    finally:
        browser.close()


class PhonePage:
    """The page as its user knows it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []
        page.set_default_timeout(1000 * PATIENCE)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def open(self, link: str) -> None:
        self.page.goto(link)
        self.page.get_by_role("button", name="Call", exact=True).and_(
            self.page.locator(":enabled")
        ).wait_for()

    def press(self, name: str) -> None:
        """Press the button whose name begins so."""
        self.page.get_by_role("button", name=re.compile(f"^{name}")).click()

    def say(self, name: str) -> None:
        """Say one of the recordings, to its end."""
        sound = base64.b64encode(wav_file(recording(name))).decode()
        self.page.evaluate("(wav) => say(wav)", sound)

    def status(self) -> str:
        return str(self.page.get_by_role("status").inner_text())

    def sentences(self, who: str, state: str) -> list[str]:
        found = self.page.locator(f'[data-who="{who}"][data-state="{state}"]')
        return [str(text) for text in found.all_inner_texts()]

    def lines(self, who: str) -> list[str]:
        found = self.page.locator(f'#entries [data-who="{who}"]')
        return [str(text) for text in found.all_inner_texts()]

    def reply(self, since: int, wanted: set[str]) -> str:
        """Return the agent's first sentence of these after so many; "" if there is none yet."""
        return next((words for words in self.lines("agent")[since:] if words in wanted), "")

    def log(self) -> str:
        return str(self.page.locator("#log").inner_text())

    def wait(self, probe: Callable[[], T], what: str, timeout: float = 2 * PATIENCE) -> T:
        """Wait until the probe's value is truthy, and return it; else show what the page shows."""
        try:
            return eventually(probe, what, timeout, pause=0.1)
        except AssertionError as error:
            shown = self.page.locator("main").inner_text()
            raise AssertionError(f"{error}. The page:\n{shown}") from None

    def wait_for_heard(self, words: str) -> None:
        """Wait until a sentence was heard to its end."""
        self.wait(lambda: words in self.sentences("agent", "heard"), f"{words!r} heard")

    def wait_for_log(self, pattern: str) -> None:
        self.wait(lambda: re.search(pattern, self.log()), f"{pattern!r} in the log")

    def wait_for_end(self) -> str:
        """Wait until the call is over; return how it ended."""
        self.wait(lambda: self.status().startswith("Call over: "), "end of the call")
        return self.status().removeprefix("Call over: ")

    def ask(self, name: str, answer: str) -> None:
        """Say something until it is understood, as one does on the phone."""
        for _ in range(6):
            before = len(self.lines("agent"))
            self.say(name)
            reply = self.wait(partial(self.reply, before, NOT_CAUGHT | {answer}), answer)
            if reply == answer:
                return
        raise AssertionError(self.lines("agent"))

    def picture(self, folder: Path | None, name: str) -> None:
        """Take a screenshot, if there is a folder for it."""
        if folder:
            self.page.screenshot(path=folder / f"{name}.png", full_page=True)
