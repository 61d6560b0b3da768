"""The worked tool stores what the workflow books, and the workflow can be given it by one line."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx2
import pytest

from settings import Settings
from tests.unit.environment import REQUIRED
from tools.app_process import START_SECONDS, eventually
from tools.clarity import Source
from tools.harness import ROOT, VOICE
from tools.ports import ReservedPort
from tools.simulator.openai_server import OpenAISimulator
from tools.simulator.waiting import PATIENCE
from workflow_client import WorkflowClient

if TYPE_CHECKING:
    from mcp.client import Client

EXAMPLE = ROOT / "examples" / "booking_mcp.py"
README = (ROOT / "examples" / "README.md").read_text("utf-8")
TOKEN = "the-token-of-the-desk"
TODAY = date.today()
MONDAY = TODAY + timedelta(days=7 - TODAY.weekday())
ADA = {"day": str(MONDAY), "hour": 14, "name": "Ada", "car": "Fiat 500", "service": "oil change"}
Booking = dict[str, Any]

thorough = pytest.mark.thorough("a server is started")


class Told(NamedTuple):
    """What the model is told."""

    refused: bool
    text: str


class Desk:
    """The example as it is served, asked by the protocol's own client."""

    def __init__(self, url: str, file: Path) -> None:
        self.url = url
        self.file = file

    def ask(self, tool: str, *requests: Booking) -> list[Told]:
        """Call a tool once for each request, all at once."""

        async def ask() -> list[Any]:
            async with self._client() as client:
                return await asyncio.gather(*(client.call_tool(tool, each) for each in requests))

        return [told(result) for result in asyncio.run(ask())]

    def tools(self) -> dict[str, Any]:
        """Return the schemas of the tools' arguments, by the tools' names."""

        async def ask() -> Any:
            async with self._client() as client:
                return await client.list_tools()

        return {tool.name: tool.input_schema for tool in asyncio.run(ask()).tools}

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[Client]:
        # Here, for every worker reads this file, and few run its tests: it takes a second
        from mcp.client import Client  # noqa: PLC0415
        from mcp.client.streamable_http import streamable_http_client  # noqa: PLC0415

        bearer = {"Authorization": f"Bearer {TOKEN}"}
        http = httpx2.AsyncClient(headers=bearer, timeout=PATIENCE)
        transport = streamable_http_client(self.url, http_client=http)
        async with http, Client(transport) as client:
            yield client

    def rows(self) -> list[tuple[str, int, str]]:
        """Return day, hour and name of every booking, as another program reads them."""
        with sqlite3.connect(self.file) as bookings:
            query = "SELECT day, hour, name FROM bookings ORDER BY day, hour"
            return list(bookings.execute(query))


def told(result: Any) -> Told:
    texts = [part.text for part in result.content if part.type == "text"]
    return Told(bool(result.is_error), "\n".join(texts))


def start(port: int, file: Path, token: str = TOKEN) -> subprocess.Popen[str]:
    names = {"BOOKING_TOKEN": token, "BOOKING_FILE": str(file), "BOOKING_PORT": str(port)}
    return subprocess.Popen(
        [sys.executable, EXAMPLE],
        env={**os.environ, **names},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def listens(url: str) -> bool:
    """Tell whether anybody answers there; a stranger gets a 401."""
    try:
        urllib.request.urlopen(url, timeout=PATIENCE)
    except urllib.error.HTTPError as refused:
        return refused.code == 401
    except OSError:
        return False
    return False


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    file = tmp_path_factory.mktemp("desk") / "bookings.sqlite3"
    with ReservedPort() as reserved:
        process = start(reserved.number, file)
        desk = Desk(f"{reserved.url}/mcp", file)
        try:
            eventually(lambda: listens(desk.url), "answer of the example", START_SECONDS)
            yield desk
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE)


@pytest.fixture
def desk(served: Desk) -> Desk:
    """The served example, with no bookings."""
    with sqlite3.connect(served.file) as bookings:
        bookings.execute("DELETE FROM bookings")
    return served


@thorough
def test_a_booking_is_stored_and_its_hour_is_free_no_more(desk: Desk) -> None:
    (free,) = desk.ask("free_hours", {"day": str(MONDAY)})
    assert free.text.split() == [str(hour) for hour in range(8, 18)]
    (booked,) = desk.ask("book", ADA)
    assert booked == (False, f"Booked for Ada: Monday, {MONDAY}, 14:00.")
    assert desk.rows() == [(str(MONDAY), 14, "Ada")]
    (left,) = desk.ask("free_hours", {"day": str(MONDAY)})
    assert "14" not in left.text.split()
    assert len(left.text.split()) == 9


@thorough
def test_an_hour_is_given_to_one_caller_only(desk: Desk) -> None:
    callers = [{**ADA, "name": f"Caller {number}"} for number in range(8)]
    answers = desk.ask("book", *callers)
    assert [answer.refused for answer in answers].count(False) == 1
    assert len(desk.rows()) == 1
    (late,) = desk.ask("book", ADA)
    assert late.refused
    assert "14:00 is not free" in late.text
    assert "13, 15" in late.text


@thorough
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"day": str(TODAY - timedelta(days=1))}, f"past: today is {TODAY:%A}, {TODAY}"),
        ({"day": str(MONDAY - timedelta(days=1))}, "Sunday; open Monday to Friday"),
        ({"day": "2027-02-29"}, "day\n  Input should be a valid date"),
        ({"day": "next Tuesday"}, "day\n  Input should be a valid date"),
        ({"hour": 18}, "hour\n  Input should be less than 18"),
        ({"hour": 9.5}, "hour\n  Input should be a valid integer"),
        ({"name": ""}, "name\n  String should have at least 1 character"),
        ({"car": "x" * 201}, "car\n  String should have at most 200 characters"),
    ],
    # The days are others tomorrow: workers that begin around midnight must name the tests alike
    ids=["yesterday", "a Sunday", "no date", "words", "too late", "half", "nobody", "too long"],
)
def test_what_cannot_be_booked_is_refused_in_words_that_the_model_understands(
    desk: Desk, wrong: Booking, words: str
) -> None:
    (refused,) = desk.ask("book", {**ADA, **wrong})
    assert refused.refused
    assert words in refused.text
    assert desk.rows() == []


@thorough
def test_only_who_has_booked_can_cancel(desk: Desk) -> None:
    desk.ask("book", ADA)
    when = {"day": ADA["day"], "hour": ADA["hour"]}
    (stranger,) = desk.ask("cancel", {**when, "name": "Bob"})
    assert stranger.refused
    assert len(desk.rows()) == 1
    (cancelled,) = desk.ask("cancel", {**when, "name": "ada"})
    assert not cancelled.refused
    assert desk.rows() == []
    (again,) = desk.ask("cancel", {**when, "name": "Ada"})
    assert again.refused


@thorough
def test_the_model_is_told_what_each_tool_takes(desk: Desk) -> None:
    tools = desk.tools()
    assert list(tools) == ["free_hours", "book", "cancel"]
    arguments = tools["book"]["properties"]
    assert tools["book"]["required"] == list(ADA)
    assert arguments["day"]["format"] == "date"
    assert (arguments["hour"]["minimum"], arguments["hour"]["exclusiveMaximum"]) == (8, 18)


@thorough
def test_nobody_books_without_the_token(desk: Desk) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    body = {**call, "params": {"name": "book", "arguments": ADA}}
    accept = {"Accept": "application/json, text/event-stream", "Host": "booking.example.com"}
    for bearer, status in [("", 401), ("Bearer wrong", 401), (f"Bearer {TOKEN}", 200)]:
        answer = httpx2.post(desk.url, json=body, headers={**accept, "Authorization": bearer})
        assert answer.status_code == status
    assert len(desk.rows()) == 1


@thorough
@pytest.mark.parametrize("token", ["", "short"])
def test_it_does_not_start_without_a_secret(tmp_path: Path, token: str) -> None:
    with ReservedPort() as reserved:
        process = start(reserved.number, tmp_path / "bookings.sqlite3", token)
        output, _ = process.communicate(timeout=START_SECONDS)
    assert process.returncode == 1
    assert output.splitlines() == [
        "Set BOOKING_TOKEN to a secret of at least 16 letters; see README.md."
    ]


def test_the_line_that_readme_shows_gives_the_workflow_its_tools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOOKING_TOKEN", TOKEN)
    (line,) = re.findall(r"^```json\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    workflow = json.loads((ROOT / "workflow.json").read_text("utf-8"))
    workflow.update(json.loads(f"{{{line}}}"))
    file = tmp_path / "workflow.json"
    file.write_text(json.dumps(workflow))
    key = REQUIRED["openai_api_key"]
    with OpenAISimulator(ears=VOICE, mouth=VOICE, api_key=key) as openai:
        settings = {"agent_workflow_id": str(file), "openai_base_url": openai.base_url}
        client = WorkflowClient(Settings.model_validate({**REQUIRED, **settings}))
        client.start("CA1", "+15552223333", "+15550001111")
        assert "".join(client.send_message("CA1", "Hello")).strip()
        (asked,) = [each.body for each in openai.requests if each.path.endswith("/responses")]
        assert openai.refusals == []
    (tool,) = asked["tools"]
    assert tool == {**workflow["tools"][0], "authorization": TOKEN}


def test_it_can_be_read_in_a_few_minutes() -> None:
    source = Source(EXAMPLE)
    assert list(source.places()) == []
    assert source.size < 75
