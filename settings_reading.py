"""A model's variables, read from the environment and `.env`; every problem is told at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

import pydantic
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from settings_env import Environment, Problem, edited, filled, misnamed, read_env_file
from settings_values import is_placeholder, nearest

Model = TypeVar("Model", bound=BaseModel)
Fields = Mapping[str, FieldInfo]  # by variable

# Pydantic's words that a user of this service wouldn't understand.
WORDS = {
    "missing": "it is missing",
    "string_type": "expected a text",
    "extra_forbidden": "there is no such entry",
}
# What may be a secret that was typed into the wrong variable.
SECRET = re.compile(r"[\w-]{16,}|@|sk-")
LONGEST_SHOWN = 50  # letters of a value


class SettingsError(SystemExit, ValueError):
    """What is wrong with the settings. Uncaught, it ends the program in plain words."""


class Origin(NamedTuple):
    """Where values came from."""

    summary: str = ""  # which file was read, or why none was
    oddities: tuple[str, ...] = ()  # names and files that are probably a mistake


def read(model: type[Model], folder: Path, environment: Environment) -> Model:
    """Read a model's variables, its fields in upper case, and where they came from, `origin`.

    The environment wins over `folder`/.env, and a blank value means the default. Raises
    SettingsError with every problem at once, each naming its variable and the fix.
    """
    reading = Reading(variables(model), folder, environment)
    problems = reading.problems()
    try:
        given = reading.values()
        chosen = model.model_validate(given, context=given)
    except pydantic.ValidationError as error:
        problems.extend(reading.explained(error))
    if problems:
        raise SettingsError(reading.report(problems))
    return chosen


def variables(model: type[BaseModel]) -> Fields:
    """Return a model's fields in their order, by the names of their variables."""
    fields = {name.upper(): field for name, field in model.model_fields.items()}
    del fields["ORIGIN"]
    return fields


def default(field: FieldInfo) -> str:
    """Return a field's default as one would write it; "" if it has none."""
    return "" if field.is_required() else str(field.default)


def shipped(field: FieldInfo) -> str:
    """Return what `.env.example` has for a field, unless it only shows where a value belongs."""
    if field.examples:
        return str(field.examples[0])
    return default(field)


class Reading:
    """What the environment and a folder's `.env` give for some fields."""

    def __init__(self, fields: Fields, folder: Path, environment: Environment) -> None:
        """Read both; the environment wins."""
        shell = filled(environment)
        self.fields = fields
        self.file = read_env_file(folder / ".env")
        self.given = self.file.values | shell
        self.oddities = [str(problem) for problem in self._misnamed(shell)]
        example = {name: shipped(field) for name, field in fields.items()}
        self.oddities += edited(folder / ".env.example", example)

    def values(self) -> dict[str, object]:
        """Return the fields' values, but for what only shows where a required one belongs."""
        values: dict[str, object] = {}
        for variable, field in self.fields.items():
            value = self.given.get(variable, "")
            is_absent = field.is_required() and is_placeholder(value)
            if value and not is_absent:
                values[variable.lower()] = value
        oddities = tuple(self.oddities)
        values["origin"] = Origin(self.file.summary, oddities)
        return values

    def problems(self) -> list[Problem]:
        """Return what is wrong with `.env` itself. It is ours alone: it has no unknown names."""
        misnamed_there = self._misnamed(self.file.values)
        return [*self.file.problems, *misnamed_there]

    def _misnamed(self, names: Iterable[str]) -> Iterator[Problem]:
        """Tell of names meant for a field that now silently has its default."""
        unknown = [name for name in names if name not in self.fields]
        silent = [
            name
            for name, field in self.fields.items()
            if name not in self.given and not field.is_required()
        ]
        return misnamed(unknown, silent)

    def explained(self, error: pydantic.ValidationError) -> Iterator[Problem]:
        """Yield pydantic's findings in words that name the variable, the place and the fix."""
        for finding in error.errors():
            name, *path = map(str, finding["loc"])
            variable = name.upper()
            kind = finding["type"]
            advice = finding["msg"].removeprefix("Value error, ")
            if kind == "missing" and not path:
                advice = self._missing(variable)
            elif kind in WORDS:
                advice = WORDS[kind]
            where = self._shown(variable)
            for line in advice.split("\n"):
                what = ": ".join([*path, line])
                yield Problem(where, what)

    def _missing(self, variable: str) -> str:
        advice = f"Missing: {self.fields[variable].description}"
        unknown = self.given.keys() - self.fields.keys()
        near = nearest(variable, unknown, 0.7)
        return f"{advice}. {near} is set: did you mean that?" if near else advice

    def _shown(self, variable: str) -> str:
        """Name a variable and its value, unless that may be secret, whatever it was meant for."""
        field = self.fields[variable]
        value = self.given.get(variable, "")
        is_secret = not field.repr or SECRET.search(value)
        if not value or is_secret:
            return variable
        return f"{variable} ({value[:LONGEST_SHOWN]})"

    def report(self, problems: list[Problem]) -> str:
        """Return the whole report: the problems, which file was read, and what else is odd."""
        lines = ["Fix these settings, in the environment or in .env:"]
        lines += [f"  {problem}" for problem in problems]
        lines.append(f"{self.file.summary} {self.file.remedy}".strip())
        lines += self.oddities
        return "\n".join(lines)
