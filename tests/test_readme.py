"""What README, AGENTS and FIX_AUDIO_ISSUE say is so: settings, commands, log, tests, sizes."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values

from doctor import parsed
from tools.clarity import Source
from tools.demo.scenarios import SCENARIOS
from tools.harness import ROOT, Service, hear_out

README = (ROOT / "README.md").read_text("utf-8")
FIX = (ROOT / "FIX_AUDIO_ISSUE.md").read_text("utf-8")
MAP = (ROOT / "AGENTS.md").read_text("utf-8")
MODULES = sorted(path.name for path in ROOT.glob("*.py"))
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
IN_PROSE: dict[str, dict[str, Any]] = {
    '(`"languages": ["en", "es"]`)': {"audio.input.transcription.languages": ["en", "es"]},
    "(`null` turns noise reduction off)": {"audio.input.noise_reduction": None},
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


@pytest.mark.parametrize("page", [README, FIX], ids=["README", "FIX_AUDIO_ISSUE"])
def test_the_options_of_the_app_that_are_named_exist(page: str) -> None:
    named = re.findall(r"app\.py((?: --\w+)+)", page)
    assert " --check" in named
    for options in named:
        parsed(options.split())


def test_the_scenarios_the_readme_names_exist() -> None:
    named = re.findall(r"(?:SCENARIO=|tools\.demo +)([a-z][\w-]*)", README)
    assert named
    assert set(named) <= set(SCENARIOS)


def test_the_targets_of_make_that_are_named_exist() -> None:
    named = set(re.findall(r"`make ([\w-]+)", README + MAP))
    assert {"demo", "test", "test-all"} <= named
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert named <= set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))


def test_what_the_readme_says_of_trouble_is_tested() -> None:
    rows = section("What happens when…").split("| --- | --- | --- |\n")[1].strip().split("\n")
    tests = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(rows) >= 19
    for row in rows:
        shown = re.search(r"\| `(test_\w+)` \|$", row)
        assert shown, row
        assert f"def {shown[1]}(" in tests, row


# ---------------------------------------------------------------- what the log says


def quoted_lines() -> Iterator[str]:
    """Yield the lines of the log that are shown, without the call's ID, up to what varies."""
    beginning = r"\[CA…\] |refused [A-Z]+ \S+ at \S+: |(?=refused|Fix)"
    for block in re.findall(r"^ *```\n(.*?)^ *```", FIX, re.DOTALL | re.MULTILINE):
        yield from re.findall(
            rf"^ *(?:{beginning})((?:(?!\w+://)[A-Za-z' ])+)", block, re.MULTILINE
        )
    for quoted in re.findall(r"`([a-zA-Z' ]+):? ?[^`]*`", section("When something is wrong")):
        if " " in quoted and not quoted.startswith("refused"):
            yield quoted


def test_the_lines_of_the_log_that_are_shown_are_those_that_are_printed() -> None:
    source = "".join((ROOT / name).read_text("utf-8") for name in MODULES)
    quoted = list(quoted_lines())
    assert {"Realtime is lost", "given up", "no reply", "Fix these settings"} <= set(quoted)
    assert [words for words in quoted if words not in source] == []


# ---------------------------------------------------------------- the modules


def named_modules(text: str) -> list[str]:
    """Return the modules that a text names, also by a pattern; all must exist."""
    names: list[str] = []
    for pattern in re.findall(r"`([\w.*]+\.py)`", text):
        found = fnmatch.filter(MODULES, pattern)
        assert found, pattern
        names += found
    return names


def test_the_map_names_every_module_once() -> None:
    rooms = MAP.split("\n## The rooms, in reading order\n")[1].split("\n## ")[0]
    first_cells = "\n".join(re.findall(r"^\| (`.*?) \|", rooms, re.MULTILINE))
    assert sorted(named_modules(first_cells)) == MODULES


def test_the_files_that_the_map_sends_to_exist() -> None:
    for name in re.findall(r"`([\w/.]+\.(?:py|md|json|txt|example))`", MAP):
        assert (ROOT / name).is_file(), name


def test_the_sizes_are_about_true() -> None:
    """Within a tenth, so that not every change is one of README, too."""
    told = re.findall(r"^\| (`.*) \| (\d+) \| ", section("Size, tests, licence"), re.MULTILINE)
    named: list[str] = []
    for cell, lines in told:
        modules = named_modules(cell)
        assert int(lines) == pytest.approx(sum(map(size, modules)), rel=0.1), cell
        named += modules
    assert sorted(named) == MODULES
    (total,) = re.findall(r"^([\d,]+) lines of code", section("Size, tests, licence"), re.MULTILINE)
    assert int(total.replace(",", "")) == pytest.approx(sum(map(size, MODULES)), rel=0.1)


def size(module: str) -> int:
    return Source(ROOT / module).size
