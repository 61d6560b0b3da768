"""The phone in the browser, from its socket on: who may use it, and what it shows of a call.

The page is played by a client of its socket; for the page itself see test_phone.py.
"""

from __future__ import annotations

import json
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.cookiejar import CookieJar
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from tools.app_process import DEFAULTS
from tools.demo.receptionist import PUZZLED
from tools.harness import AUTH_TOKEN, CALLED, PUBLIC_URL, Service
from tools.phone.exchange import (
    Exchange,
    LiveExchange,
    NotStarted,
    RemoteExchange,
    SimulatedExchange,
    own_network,
)
from tools.phone.web import PhoneServer, served
from tools.simulator.openai_server import OpenAISimulator
from tools.simulator.speech import ToneReceiver, ToneVoice
from tools.simulator.twilio_network import PhoneNetwork
from tools.simulator.waiting import PATIENCE

whole_call = pytest.mark.thorough("a whole call of some seconds")
together = pytest.mark.xdist_group("phone page")  # they share an app
VOICE = ToneVoice()
PIECE = 160  # bytes of PCM16 in 10 ms
GREETING = DEFAULTS["GREETING"]
NOT_CAUGHT = {DEFAULTS["SAY_AGAIN"], DEFAULTS["IDLE_PROMPT"], PUZZLED.split(". ")[0] + "."}


class Browser:
    """A browser: it keeps cookies."""

    def __init__(self, server: PhoneServer) -> None:
        self.server = server
        self.cookies = CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))

    def get(self, url: str) -> tuple[int, str]:
        try:
            with self._opener.open(url, timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def socket(self, origin: str | None = None) -> Any:
        """Open the page's socket, as a page of this origin does (the phone's own if none).

        A context manager.
        """
        cookie = "; ".join(f"{each.name}={each.value}" for each in self.cookies)
        return connect(
            self.server.origin.replace("http", "ws") + "/socket",
            origin=Origin(origin or self.server.origin),
            additional_headers={"Cookie": cookie},
        )


class PagePlayer:
    """The page: it speaks in tones, and keeps what it is shown."""

    def __init__(self, socket: ClientConnection) -> None:
        self.shown: list[dict[str, Any]] = []
        self.ear = ToneReceiver()
        self.sound = 0  # bytes
        self._socket = socket
        self._speech: queue.Queue[bytes] = queue.Queue()
        self._gone = threading.Event()
        for work in (self._listen, self._speak):
            threading.Thread(target=work, daemon=True).start()

    def close(self) -> None:
        self._gone.set()
        self._socket.close()

    def ask(self, do: str, **what: Any) -> None:
        self._socket.send(json.dumps({"do": do, **what}))

    def say(self, words: str) -> None:
        sound = VOICE.speak(words)
        for at in range(0, len(sound), PIECE):
            self._speech.put(sound[at : at + PIECE])

    def _speak(self) -> None:
        """Send 10 ms at a time, on an absolute schedule, as the microphone does."""
        due = time.monotonic()
        while not self._gone.is_set():
            piece = b"" if self._speech.empty() else self._speech.get()
            try:
                self._socket.send(piece + bytes(PIECE - len(piece)))
            except ConnectionClosed:
                return
            due += 0.01
            self._gone.wait(max(0.0, due - time.monotonic()))

    def _listen(self) -> None:
        try:
            for message in self._socket:
                if isinstance(message, bytes):
                    self.sound += len(message)
                    self.ear.feed(message)
                else:
                    self.shown.append(json.loads(message))
        except ConnectionClosed:
            return

    def entries(self, who: str) -> list[dict[str, Any]]:
        """Return the entries of one kind, each as it was shown last."""
        entries = [each for each in list(self.shown) if each["show"] == "entry"]
        latest = {each["id"]: each for each in entries if each["who"] == who}
        return list(latest.values())

    def texts(self, who: str) -> list[str]:
        return [entry["text"] for entry in self.entries(who)]

    def wait(self, probe: Any, what: str) -> Any:
        deadline = time.monotonic() + PATIENCE
        while not (value := probe()):
            assert time.monotonic() < deadline, f"no {what}: {self.shown}"
            threading.Event().wait(0.02)
        return value

    def wait_for_text(self, who: str, words: str) -> None:
        self.wait(lambda: any(words in text for text in self.texts(who)), f"{who}: {words!r}")

    def wait_for_heard(self, words: str) -> None:
        """Wait until a sentence is shown as heard to its end."""

        def is_heard() -> bool:
            sentences = [each for each in self.entries("agent") if each["text"] == words]
            return any(each["state"] == "heard" for each in sentences)

        self.wait(is_heard, f"{words!r} heard")

    def get_answer(self, words: str, answer: str) -> None:
        """Say something until it is answered so: a busy machine's sound comes late, and broken."""
        for _ in range(6):
            before = len(self.texts("agent"))
            self.say(words)
            reply = self.wait(partial(self._reply, before, answer), f"answer to {words!r}")
            if reply == answer:
                self.wait_for_heard(answer)
                return
        raise AssertionError(f"no {answer!r}: {self.shown}")

    def be_heard(self, words: str, answer: str) -> None:
        """Say something until it is heard to the letter: some may be lost, and the answer right."""
        for _ in range(6):
            self.get_answer(words, answer)
            if words in self.texts("caller"):
                return
        raise AssertionError(f"not heard: {words!r} but {self.texts('caller')}")

    def _reply(self, since: int, answer: str) -> str:
        said = self.texts("agent")[since:]
        told = [text for text in said if text in NOT_CAUGHT or text.startswith("You said: ")]
        return answer if answer in said else "".join(told[:1])

    def wait_for_end(self) -> str:
        def why() -> str:
            return next((each.get("why", "") for each in list(self.shown) if "why" in each), "")

        return str(self.wait(why, "end of the call"))

    def log(self) -> list[str]:
        return [each["text"] for each in self.shown if each["show"] == "log"]


# --- who may use it ---------------------------------------------------------------------------


@contextmanager
def serving(exchange: Exchange) -> Iterator[PhoneServer]:
    """Serve the page of an exchange."""
    with exchange, served(exchange) as server:
        yield server


@contextmanager
def calling(browser: Browser, greeting: str = GREETING) -> Iterator[PagePlayer]:
    """Have the page in a call, and hang up."""
    with browser.socket() as socket:
        page = PagePlayer(socket)
        page.ask("call")
        page.wait_for_heard(greeting)
        yield page
        page.close()


def opened(server: PhoneServer) -> Browser:
    """Open the link."""
    browser = Browser(server)
    browser.get(server.link)
    return browser


@pytest.fixture
def idle() -> Iterator[PhoneServer]:
    """A phone with a network and no app."""
    with serving(Exchange(own_network())) as server:
        yield server


def test_the_link_opens_the_page_once_and_for_one_browser(idle: PhoneServer) -> None:
    link = idle.link
    mine, another = Browser(idle), Browser(idle)
    assert another.get(idle.origin) == (
        403,
        "Open the link that make phone has printed. It works once; after that, this page does.",
    )
    status, page = mine.get(link)
    assert (status, "<title>Talk to your agent</title>" in page) == (200, True)
    assert another.get(link)[0] == 403
    assert mine.get(link)[0] == 200  # a reload
    assert mine.get(f"{idle.origin}/page/phone.js")[0] == 200
    assert another.get(f"{idle.origin}/page/phone.js")[0] == 403


def test_a_wrong_token_leaves_the_link_as_good_as_it_was(idle: PhoneServer) -> None:
    browser = Browser(idle)
    assert browser.get(f"{idle.origin}/?token=wrong")[0] == 403
    assert browser.get(f"{idle.origin}/?token=")[0] == 403
    assert browser.get(idle.link)[0] == 200


def test_another_page_in_the_same_browser_can_not_use_the_phone(idle: PhoneServer) -> None:
    browser = Browser(idle)
    with pytest.raises(InvalidStatus), browser.socket():
        pass  # it has no cookie
    browser.get(idle.link)
    for origin in ("https://evil.example", "null", "http://localhost:5000"):
        with pytest.raises(InvalidStatus), browser.socket(origin):
            pass
    with browser.socket() as socket:
        assert json.loads(socket.recv(PATIENCE))["show"] == "welcome"


def test_only_this_machine_is_listened_to(idle: PhoneServer) -> None:
    assert idle.origin.startswith("http://127.0.0.1:")
    with pytest.raises(OSError):
        urllib.request.urlopen(idle.origin.replace("127.0.0.1", "127.0.0.2"), timeout=PATIENCE)


def test_the_window_opened_last_has_the_phone(idle: PhoneServer) -> None:
    browser = opened(idle)
    with browser.socket() as first:
        first.recv(PATIENCE)
        with browser.socket() as second:
            assert json.loads(second.recv(PATIENCE))["show"] == "welcome"
            with pytest.raises(ConnectionClosed) as closed:
                first.recv(PATIENCE)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4001


@pytest.mark.parametrize(
    "nonsense", ["", "[]", "{}", '{"do": "dance"}', '{"do": "press", "keys": "A"}', '{"do": []}']
)
def test_nonsense_from_the_page_is_answered_and_nothing_ends(
    idle: PhoneServer, nonsense: str
) -> None:
    browser = opened(idle)
    with browser.socket() as socket:
        assert json.loads(socket.recv(PATIENCE))["show"] == "welcome"
        socket.send(nonsense)
        assert json.loads(socket.recv(PATIENCE))["show"] == "trouble"


# --- a call -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser with a phone to all of it, with tones for ears and mouth."""
    with serving(SimulatedExchange(VOICE, VOICE)) as server:
        yield opened(server)


@pytest.fixture
def page(browser: Browser) -> Iterator[PagePlayer]:
    with calling(browser) as page:
        yield page
    network = network_of(browser.server)
    for call in network.placed:
        call.wait_ended()
    assert network.refusals == []
    network.forget()


def network_of(server: PhoneServer) -> PhoneNetwork:
    assert server.operator
    assert server.operator.watch
    return server.operator.watch.call.network


@whole_call
@together
def test_what_is_said_is_heard_and_what_is_heard_is_played(page: PagePlayer) -> None:
    page.be_heard("I need an oil change", "Certainly.")
    assert page.texts("workflow")[0].startswith("[Phone call from ")
    assert page.texts("workflow")[-1].endswith("I need an oil change")
    assert GREETING in page.ear.text()
    assert any(text.startswith("after the last word: ") for text in page.texts("times"))
    assert any("call started" in line for line in page.log())


@whole_call
@together
def test_a_barge_in_is_shown_cut_and_told_to_the_workflow(page: PagePlayer) -> None:
    page.get_answer(
        "How much is a brake inspection",
        "A brake inspection takes thirty minutes and costs 35 dollars.",
    )
    page.get_answer("Tuesday", "Tuesday at nine it is.")
    cut = [entry for entry in page.entries("agent") if entry["state"] == "cut"]
    assert cut
    before_the_last_word = cut[0]["text"][: cut[0]["heard"]].rpartition(" ")[0]
    assert before_the_last_word in page.ear.text()  # the last one may be heard in part
    assert any(text.startswith("[The caller cut in.") for text in page.texts("workflow"))
    assert any(text.startswith("barge-in: silent ") for text in page.texts("times"))


@whole_call
@together
def test_keys_reach_the_workflow(page: PagePlayer) -> None:
    page.ask("press", keys="42#")
    page.wait_for_text("workflow", "[The caller pressed 42 on the keypad.]")
    assert page.texts("caller") == ["presses 4", "presses 2", "presses #"]


@whole_call
@together
def test_who_hangs_up_or_closes_the_page_ends_the_call(page: PagePlayer) -> None:
    page.ask("hang up")
    assert page.wait_for_end() == "caller hung up"


@whole_call
@together
def test_the_call_can_be_saved(page: PagePlayer, browser: Browser) -> None:
    page.ask("hang up")
    page.wait_for_end()
    status, text = browser.get(f"{browser.server.origin}/call.txt")
    assert (status, f"agent     {GREETING}" in text) == (200, True)
    assert browser.get(f"{browser.server.origin}/call.wav")[1].startswith("RIFF")
    assert browser.get(f"{browser.server.origin}/call.exe")[0] == 404


@whole_call
@together
def test_the_app_is_killed_and_the_call_goes_on(page: PagePlayer) -> None:
    page.ask("break", what="kill", on=True)
    page.wait_for_text("you", "you killed process ")
    page.wait_for_heard("Sorry, we were cut off for a moment. Please go on.")
    page.get_answer("I need an oil change", "Certainly.")
    assert any("call resumed" in line for line in page.log())


@whole_call
@together
def test_the_stream_is_dropped_and_the_call_goes_on(page: PagePlayer) -> None:
    page.get_answer("I need an oil change", "Certainly.")
    page.ask("break", what="drop", on=True)
    page.wait_for_heard("Sorry, we were cut off for a moment. Please go on.")
    assert "the stream is lost: the connection broke" in page.texts("phone")


@whole_call
@together
def test_openai_stands_still_and_what_was_said_meanwhile_is_answered(page: PagePlayer) -> None:
    page.ask("break", what="stop", on=True)
    page.get_answer("I need an oil change", "Certainly.")


@whole_call
@together
def test_a_slow_workflow_is_bridged(page: PagePlayer) -> None:
    page.ask("break", what="slow", on=True)
    page.get_answer("I need an oil change", "One moment, please.")
    page.wait_for_heard("Certainly.")


@whole_call
@together
def test_a_cough_is_a_noise_and_the_agent_says_again_what_it_cut(page: PagePlayer) -> None:
    page.say("How much is a brake inspection")
    page.wait_for_text("agent", "I have Tuesday at nine")
    page.ask("break", what="cough", on=True)
    page.wait_for_text("caller", "(a noise without words)")
    page.wait_for_heard("Which day would you like?")


@whole_call
@together
def test_somebody_else_calls_and_hears_the_busy_tone(page: PagePlayer) -> None:
    page.ask("break", what="full", on=True)
    page.wait_for_text("you", "the busy tone")
    page.get_answer("I need an oil change", "Certainly.")


# --- other apps and another OpenAI ------------------------------------------------------------

NO_SETTINGS = dict.fromkeys(DEFAULTS, "")


@whole_call
@together
def test_with_keys_the_owners_own_workflow_is_called_and_watched_as_well() -> None:
    with OpenAISimulator(ears=VOICE, mouth=VOICE) as openai:
        own = {
            "OPENAI_API_KEY": openai.api_key,
            "OPENAI_BASE_URL": openai.base_url,
            "AGENT_BASE_URL": openai.base_url,
            "AGENT_API_KEY": openai.api_key,
            "AGENT_WORKFLOW_ID": "workflow.json",
            "GREETING": "My own greeting.",
            "TWILIO_AUTH_TOKEN": AUTH_TOKEN,  # of the real Twilio: not used here
        }
        with (
            serving(LiveExchange({**NO_SETTINGS, **own})) as server,
            calling(opened(server), "My own greeting.") as page,
        ):
            page.get_answer("Hello", "You said: Hello.")
            assert page.texts("workflow")[-1].endswith("Hello")
        assert openai.refusals == []


@whole_call
@together
def test_an_app_that_does_not_start_is_told_with_its_own_words() -> None:
    with pytest.raises(NotStarted, match=r"OPENAI_API_KEY"), LiveExchange(NO_SETTINGS):
        pass


@whole_call
@pytest.mark.parametrize("mode", ["threads"], scope="session")
def test_an_app_that_runs_elsewhere_is_called_as_twilio_calls_it(service: Service) -> None:
    own = {
        "TWILIO_ACCOUNT_SID": service.network.account_sid,
        "TWILIO_AUTH_TOKEN": AUTH_TOKEN,
        "TWILIO_PHONE_NUMBER": CALLED,
        "WEBHOOK_URL": PUBLIC_URL,
    }
    exchange = RemoteExchange(service.url, {**NO_SETTINGS, **own})
    with serving(exchange) as server, opened(server).socket() as socket:
        page = PagePlayer(socket)
        page.ask("call")
        page.wait(lambda: "Hello!" in page.ear.text(), "greeting")
        page.say("What time is it?")
        page.wait(lambda: "You said: What time is it?." in page.ear.text(), "answer")
        page.close()
    assert exchange.network.refusals == []


def test_without_the_token_no_app_elsewhere_can_be_called() -> None:
    with pytest.raises(NotStarted, match="TWILIO_AUTH_TOKEN"):
        RemoteExchange("https://voice.example.com", NO_SETTINGS)
