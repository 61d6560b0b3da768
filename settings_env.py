"""Where the settings come from: the environment, which wins, and the file `.env`."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from dotenv import dotenv_values
from dotenv.parser import Binding, parse_stream

from settings_values import is_placeholder, nearest


class Problem(NamedTuple):
    """A variable, or a place in a file, and what to do about it."""

    where: str
    advice: str


@dataclass
class Given:
    """The values as they were given, by variable; blank ones are left out."""

    values: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    oddities: list[str] = field(default_factory=list)  # nothing to refuse
    source: str = ""


def given(folder: Path, environment: Mapping[str, str], names: Iterable[str]) -> Given:
    """Gather the variables of these names from `folder`/.env and the environment."""
    known = tuple(names)
    file = _read(folder / ".env")
    everything = {**file.values, **_filled(environment)}
    values = {name: value for name, value in everything.items() if name in known}
    found = Given(values, list(file.problems), [], file.source)
    for name, near in _near_misses(file.values, known):
        found.problems.append(Problem(name, f"There is no such setting: did you mean {near}?"))
    for name, near in _near_misses(_filled(environment), known):
        if near not in values:
            found.oddities.append(f"{name} is set, but no setting: did you mean {near}?")
    found.oddities.extend(_edited_example(folder / ".env.example"))
    return found


def _filled(values: Mapping[str, str | None]) -> dict[str, str]:
    stripped = {name: (value or "").strip() for name, value in values.items()}
    return {name: value for name, value in stripped.items() if value}


def _near_misses(names: Iterable[str], known: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for name in names:
        near = nearest(name.upper(), known, 0.88)
        if near and name not in known:
            yield name, near


# --- the file ---------------------------------------------------------------------------------


def _read(path: Path) -> Given:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Given(source=f"There is no {path}: copy .env.example to it and fill it in.")
    except OSError as error:
        return Given(source=f"{path} can't be read: {error.strerror}.")
    found = Given(source=f"Read {path}.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        found.problems.append(Problem(f".env, line {line}", "Save the file as UTF-8"))
        text = content.decode("latin-1")
    bindings = list(parse_stream(io.StringIO(text)))
    found.problems.extend(_faults(bindings))
    readable = "".join(each.original.string for each in bindings if not each.error)
    found.values = _filled(dotenv_values(stream=io.StringIO(readable)))
    return found


def _faults(bindings: list[Binding]) -> Iterator[Problem]:
    for binding in bindings:
        text = binding.original.string.strip()
        where = f".env, line {_line(binding)}"
        name = re.match(r"(?:export\s+)?(\w+)\s*[=:]", text)
        if name:
            where += f" ({name[1]})"
        if binding.error:
            yield Problem(where, "Expected NAME=value; is a quotation mark missing?")
        elif binding.key and binding.value is None:
            yield Problem(where, "Expected NAME=value: there is no =")
        elif re.search(r"\n\s*[A-Z_]+=", text):
            yield Problem(where, "A quotation mark is missing: the value goes on in the next line")
        elif re.fullmatch(r"[^=]*=\s*[^\s'\"#][^\n]*\S#.*", text):
            yield Problem(where, 'Put a space before the "#" of a comment, or quote the value')


def _line(binding: Binding) -> int:
    blank = re.match(r"\s*", binding.original.string)
    return binding.original.line + (blank[0].count("\n") if blank else 0)


def _edited_example(path: Path) -> Iterator[str]:
    """Tell of real values in the file that is only documentation, and tracked by git."""
    if not path.is_file():
        return
    example = dotenv_values(path, encoding="utf-8")
    secrets = [name for name in example if re.search("SID|TOKEN|KEY", name)]
    for name in secrets:
        value = (example[name] or "").strip()
        if value and not is_placeholder(value):
            yield f"{name} stands in .env.example: move it to .env, which git doesn't track"
