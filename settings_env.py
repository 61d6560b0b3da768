"""Where the settings come from: the environment, which wins, and the file `.env`."""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from dotenv import dotenv_values
from dotenv.parser import Binding, parse_stream

from settings_json import decode, unreadable_line
from settings_values import is_placeholder, nearest

Values = dict[str, str]  # by variable; none is blank
Environment = Mapping[str, str]

ANOTHER_VARIABLE = re.compile(r"\n\s*[A-Z_]+\s*=")
UNQUOTED_WITH_TAIL = re.compile(r"[^=#]*=\s*(?!['\"])[^#\n]*(?<=\S)#.*")


class Problem(NamedTuple):
    """A variable, or a place in a file, and what to do about it."""

    where: str
    advice: str

    def __str__(self) -> str:
        """Return both in a line."""
        return f"{self.where}: {self.advice}"


@dataclass
class EnvFile:
    """What was found in `.env`."""

    summary: str  # which file was read, or why none was
    remedy: str = ""  # if something is missing
    values: Values = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def filled(values: Mapping[str, str | None]) -> Values:
    """Strip the values, and leave out the blank ones."""
    stripped = {name: (value or "").strip() for name, value in values.items()}
    return {name: value for name, value in stripped.items() if value}


def read_env_file(path: Path) -> EnvFile:
    """Read a file of variables, with every problem of its lines."""
    try:
        text = decode(path.read_bytes())
    except FileNotFoundError:
        summary = f"There is no {path}: the environment alone was read."
        return EnvFile(summary, remedy="Copy .env.example to .env and fill it in.")
    except OSError as error:
        return EnvFile(f"{path} can't be read: {error.strerror}.")
    found = EnvFile(f"Read {path}.")
    bindings = list(parse_stream(io.StringIO(text)))
    found.problems.extend(_faults(bindings))
    line = unreadable_line(text)
    if line:
        found.problems.append(Problem(f"{path.name}, line {line}", "Save the file as UTF-8"))
    readable = [each.original.string for each in bindings if not each.error]
    found.values = filled(dotenv_values(stream=io.StringIO("".join(readable))))
    return found


def _faults(bindings: list[Binding]) -> Iterator[Problem]:
    lines: dict[str, int] = {}
    for binding in bindings:
        line = _line(binding)
        fault = _fault(binding)
        if binding.key in lines:
            fault = f"Already set in line {lines[binding.key]}; remove one of the two"
        if fault:
            yield Problem(f".env, line {line}{_named(binding)}", fault)
        if binding.key:
            lines[binding.key] = line


def _fault(binding: Binding) -> str:
    text = binding.original.string.strip()
    if binding.error:
        return "Expected NAME=value; is a quotation mark missing?"
    if binding.key and binding.value is None:
        return "Expected NAME=value; there is no ="
    if ANOTHER_VARIABLE.search(text):
        return "A quotation mark is missing; the value runs on into the next line"
    if UNQUOTED_WITH_TAIL.fullmatch(text):
        return "Put a space before the # of a comment, or quote the value"
    return ""


def _line(binding: Binding) -> int:
    """Return the number of the line where the text begins: blank lines are part of a binding."""
    text = binding.original.string
    blank = text[: len(text) - len(text.lstrip())]
    return binding.original.line + blank.count("\n")


def _named(binding: Binding) -> str:
    """Name the variable of a line that may be unreadable; anything else there may be secret."""
    name = re.match(r"\s*(?:export\s+)?([A-Z_]+)\s*[=:]", binding.original.string)
    return f" ({name[1]})" if name else ""


def misnamed(names: Iterable[str], meant: Collection[str]) -> Iterator[Problem]:
    """Tell of each name that is nearly one of those that may have been meant."""
    for name in names:
        near = nearest(name.upper(), meant, 0.88)
        if near:
            yield Problem(name, f"No such setting; did you mean {near}?")


def edited(example: Path, shipped: Mapping[str, str]) -> Iterator[str]:
    """Tell of values that were typed into `.env.example`, which is never read."""
    if not example.is_file():
        return
    text = decode(example.read_bytes())
    values = filled(dotenv_values(stream=io.StringIO(text)))
    names = [
        name
        for name, value in values.items()
        if value != shipped.get(name) and not is_placeholder(value)
    ]
    if names:
        yield f".env.example is never read, and git tracks it; move {', '.join(names)} to .env"
