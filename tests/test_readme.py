"""What the README says can be copied from it, and its table names the settings there are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values

from tools.demo.scenarios import SCENARIOS
from tools.harness import ROOT, Service, hear_out

README = (ROOT / "README.md").read_text("utf-8")
EXAMPLE = dotenv_values(ROOT / ".env.example")
REQUIRED = list(EXAMPLE)[:6]  # "fill in the first six values"
PLACES = {
    "transcription": ["input"],
    "turn_detection": ["input"],
    "noise_reduction": ["input"],
    "voice": ["output"],
    "speed": ["output"],
    "format": ["input", "output"],
}
TRANSCRIPTION = "audio.input.transcription"
IN_PROSE: dict[str, dict[str, Any]] = {
    '(`"languages": ["en", "es"]` instead of `"language"`)': {
        f"{TRANSCRIPTION}.languages": ["en", "es"],
        f"{TRANSCRIPTION}.language": ...,
    },
    "(`null` switches noise reduction off)": {"audio.input.noise_reduction": None},
}


def section(title: str) -> str:
    """Return the README's text under a heading."""
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


SNIPPETS = re.findall(
    r"^```json\n(.*?)^```", section("The voice session"), re.DOTALL | re.MULTILINE
)


def changes(snippet: str) -> dict[str, Any]:
    """Return a snippet's members by their places in the session, as dotted paths."""
    members = json.loads(f"{{{snippet}}}")
    return {
        f"audio.{side}.{name}": value for name, value in members.items() for side in PLACES[name]
    }


def edit(changes: dict[str, Any], text: str) -> Any:
    return pytest.param(text, marks=pytest.mark.session(changes), id=", ".join(changes))


@pytest.mark.parametrize("mode", ["threads"], scope="session")
@pytest.mark.parametrize(
    "text",
    [edit(changes(snippet), snippet) for snippet in SNIPPETS]
    + [edit(edits, words) for words, edits in IN_PROSE.items()],
)
def test_a_call_is_held_with_each_edit_of_the_voice_session(service: Service, text: str) -> None:
    assert text in section("The voice session")
    call = service.call()
    call.say("Hello")
    hear_out(call, "You said: Hello.")
    file = Path(service.settings["REALTIME_SESSION"])
    (update,) = service.session.events("session.update")
    assert update["session"] == json.loads(file.read_text("utf-8"))


def test_the_table_lists_every_setting_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) (?<!\\)\| ", section("Configuration"), re.MULTILINE)
    told = {name: default.replace(r"\|", "|") for name, default in rows}
    assert list(told) == [name for name, _ in rows], "a setting is listed twice"
    assert sorted(told) == sorted(EXAMPLE)
    for name, value in EXAMPLE.items():
        default = "required" if name in REQUIRED else value or "none"
        beginning, cut, _ = told[name].partition("…")
        assert default.startswith(beginning) if cut else default == told[name], name


def test_the_scenarios_the_readme_names_exist() -> None:
    named = re.findall(r"(?:SCENARIO=|tests\.demo +)([a-z][\w-]*)", README)
    assert named
    assert set(named) <= set(SCENARIOS)


def test_what_the_readme_says_of_trouble_is_tested() -> None:
    named = re.findall(r"\| `(test_\w+)` \|$", section("What happens when…"), re.MULTILINE)
    tests = "".join(path.read_text("utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    assert len(named) >= 12
    assert [name for name in named if f"def {name}(" not in tests] == []
