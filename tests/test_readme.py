"""What README, docs/ and their neighbours say is so: settings, commands, links, log, sizes."""

from __future__ import annotations

import fnmatch
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values

from doctor import parsed
from tools.clarity import Source
from tools.demo.scenarios import SCENARIOS
from tools.harness import ROOT, Service, hear_out

PAGES = [
    ROOT / "README.md",
    ROOT / "AGENTS.md",
    ROOT / "FIX_AUDIO_ISSUE.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / folder / "README.md" for folder in ("examples", "tests", "tools")),
]
TEXTS = {page: page.read_text("utf-8") for page in PAGES}
ALL = "\n".join(TEXTS.values())
README = TEXTS[ROOT / "README.md"]
MAP = TEXTS[ROOT / "AGENTS.md"]
FIX = TEXTS[ROOT / "FIX_AUDIO_ISSUE.md"]
CONFIGURATION = TEXTS[ROOT / "docs/configuration.md"]
TROUBLE = TEXTS[ROOT / "docs/troubleshooting.md"]
SURVIVAL = TEXTS[ROOT / "docs/what-happens-when.md"]
DEVELOPMENT = TEXTS[ROOT / "docs/development.md"]
MODULES = sorted(path.name for path in ROOT.glob("*.py"))
EXAMPLE = dotenv_values(ROOT / ".env.example")
REQUIRED = list(EXAMPLE)[:6]
TO_FILL_IN = REQUIRED[:5]  # the sixth is filled in: `workflow.json`
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


def section(page: str, title: str) -> str:
    """Return a page's text under a heading."""
    return page.split(f"\n## {title}\n")[1].split("\n## ", 1)[0]


def blocks(page: str, language: str) -> list[str]:
    """Return a page's code in a language, also where it is indented."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", page, re.DOTALL | re.MULTILINE)
    return [re.sub(f"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


def each(pattern: str) -> Any:
    """Run a test for each page in which a pattern occurs."""
    pages = {str(page.relative_to(ROOT)): page for page in PAGES if re.search(pattern, TEXTS[page])}
    return pytest.mark.parametrize("page", pages.values(), ids=pages)


VOICE_SESSION = section(CONFIGURATION, "The voice session")
SNIPPETS = blocks(VOICE_SESSION, "json")


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
    assert text in VOICE_SESSION
    call = service.call()
    call.say("Hello")
    hear_out(call, "You said: Hello.")
    file = Path(service.settings["REALTIME_SESSION"])
    (update,) = service.session.events("session.update")
    assert update["session"] == json.loads(file.read_text("utf-8"))


def test_the_table_lists_every_setting_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) (?<!\\)\| ", CONFIGURATION, re.MULTILINE)
    told = {name: default.replace(r"\|", "|") for name, default in rows}
    assert list(told) == [name for name, _ in rows], "a setting is listed twice"
    assert sorted(told) == sorted(EXAMPLE)
    for name, value in EXAMPLE.items():
        default = "required" if name in REQUIRED else value or "none"
        beginning, cut, _ = told[name].partition("…")
        assert default.startswith(beginning) if cut else default == told[name], name


def test_the_first_page_shows_settings_that_exist_and_all_that_are_required() -> None:
    told = re.findall(r"`([A-Z_]+)`", "".join(re.findall(r"^\| (`.*?) \|", README, re.MULTILINE)))
    assert len(told) == len(set(told)) == 10
    assert told[: len(REQUIRED)] == REQUIRED
    assert set(told) <= set(EXAMPLE)


# ---------------------------------------------------------------- pages and commands


def test_the_first_page_stays_a_first_page() -> None:
    assert len(README.splitlines()) <= 130


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@each(r"\]\((?!https:)")
def test_the_links_between_the_pages_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!https:)(.*?)\)", TEXTS[page]):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_of_the_docs_can_be_reached_from_the_first() -> None:
    linked = set(re.findall(r"\]\(docs/([\w-]+\.md)", README))
    assert linked == {page.name for page in (ROOT / "docs").glob("*.md")}


@each("```json\n")
def test_the_json_that_is_shown_is_json(page: Path) -> None:
    for text in blocks(TEXTS[page], "json"):
        json.loads(text if text.startswith("{") else f"{{{text}}}")


@each("```sh\n")
def test_the_shell_commands_that_are_shown_are_whole(page: Path) -> None:
    for text in blocks(TEXTS[page], "sh"):
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def test_the_programs_and_files_that_commands_name_exist() -> None:
    modules = re.findall(r"python3? -m (tools\.\w+)", ALL)
    scripts = re.findall(r"bin/python ([\w/]+\.py)", ALL)
    lists = re.findall(r"(?:pip install -r |`)(requirements[\w-]*\.txt)", ALL)
    assert {"tools.demo", "tools.chat"} <= set(modules)
    assert {"app.py", "examples/booking_mcp.py"} <= set(scripts)
    assert "requirements.txt" in lists
    for module in modules:
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module
    for name in scripts + lists:
        assert (ROOT / name).is_file(), name


@pytest.mark.parametrize("beginning", ["wf_", "pmpt_", "asst_", "agent_"])
def test_every_kind_of_id_that_leads_to_a_page_is_explained_there(beginning: str) -> None:
    assert f"| `{beginning}…` |" in FIX
    assert f"`{beginning}" in CONFIGURATION


def test_a_newcomer_who_fills_in_nothing_is_told_the_first_five_values(tmp_path: Path) -> None:
    """The commands of the set-up, but for the virtualenv, which is the one that runs the test."""
    folder = tmp_path / "clone"
    unwanted = shutil.ignore_patterns(".*", "tests", "tools", "__pycache__")
    shutil.copytree(ROOT, folder, ignore=unwanted)
    shutil.copy(ROOT / ".env.example", folder)
    (install,) = blocks(section(README, "Set it up"), "sh")
    *virtualenv, copy = install.splitlines()
    assert [line.split()[2] for line in virtualenv] == ["venv", "pip"]
    subprocess.run(["bash", "-c", copy], cwd=folder, check=True)
    environment = {"PYTHONIOENCODING": "utf-8"}
    check = subprocess.run(
        [sys.executable, "app.py", "--check"],
        cwd=folder,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert check.returncode == 1
    assert re.findall(r"^ +([A-Z_]+)\b.*: Missing: ", check.stdout, re.MULTILINE) == TO_FILL_IN


@each(r"app\.py --")
def test_the_options_of_the_app_that_are_named_exist(page: Path) -> None:
    for options in re.findall(r"app\.py((?: --\w+)+)", TEXTS[page]):
        parsed(options.split())


def test_the_scenarios_that_the_first_page_names_exist() -> None:
    named = re.findall(r"(?:SCENARIO=|tools\.demo +)([a-z][\w-]*)", README)
    named.remove("list")  # names the others
    assert named
    assert set(named) <= set(SCENARIOS)


def test_the_targets_of_make_that_are_named_exist() -> None:
    named = set(re.findall(r"(?:`|^)make ([\w-]+)", ALL, re.MULTILINE))
    assert {"demo", "test", "test-all"} <= named
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert named <= set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))


def test_make_clean_removes_what_the_demo_writes_and_nothing_of_the_owner_s() -> None:
    command = ["make", "--dry-run", "clean"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    removed = told.split()
    stems = ["call", *(f"call-{name}" for name in SCENARIOS if name != "booking")]
    assert {f"{stem}.{kind}" for stem in stems for kind in ("wav", "txt", "png")} <= set(removed)
    for own in ("callers.txt", "call-list.txt", "calls.wav", "workflow.json", ".env"):
        assert not any(fnmatch.fnmatch(own, name) for name in removed), own


def test_what_is_said_of_mishaps_is_tested() -> None:
    rows = SURVIVAL.split("| --- | --- | --- |\n")[1].strip().split("\n")
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
    for block in blocks(FIX + TROUBLE, "text"):
        yield from re.findall(
            rf"^ *(?:{beginning})((?:(?!\w+://)[A-Za-z' ])+)", block, re.MULTILINE
        )
    rows = "\n".join(re.findall(r"^\|.*\|$", TROUBLE, re.MULTILINE))
    for quoted in re.findall(r"`([a-zA-Z' ]+):? ?[^`]*`", rows):
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
    """Within a tenth, so that not every change is one of the page, too."""
    told = re.findall(r"^\| (`.*) \| (\d+) \| ", DEVELOPMENT, re.MULTILINE)
    named: list[str] = []
    for cell, lines in told:
        modules = named_modules(cell)
        assert int(lines) == pytest.approx(sum(map(size, modules)), rel=0.1), cell
        named += modules
    assert sorted(named) == MODULES
    all_told = re.findall(r"^([\d,]+) lines of code", DEVELOPMENT, re.MULTILINE)
    assert_is_about_all(all_told)
    rows = sum(int(lines) for _, lines in told)
    assert rows == pytest.approx(number(all_told[0]), abs=10), "the rows, and their sum"


def test_the_first_page_s_sizes_are_about_true() -> None:
    told = re.findall(r"`(\w+\.py)`\s\((\d+)\)", README)
    assert len(told) == 6
    for module, lines in told:
        assert int(lines) == pytest.approx(size(module), rel=0.1), module
    assert_is_about_all(re.findall(r"([\d,]+) lines without the tests", README))


def assert_is_about_all(told: list[str]) -> None:
    (total,) = told
    assert number(total) == pytest.approx(sum(map(size, MODULES)), rel=0.1)


def number(told: str) -> int:
    return int(told.replace(",", ""))


def size(module: str) -> int:
    return Source(ROOT / module).size
