"""One name for one thing: nobody has to ask which `Call` is meant. And no class keeps too much."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tools.clarity import MOST_ATTRIBUTES, attributes

pytestmark = pytest.mark.xdist_group("names")  # every file is parsed only once
ROOT = Path(__file__).parent.parent
FILES = sorted(file for folder in ("tools", "tests") for file in (ROOT / folder).rglob("*.py"))


@cache
def nodes(file: Path) -> list[ast.AST]:
    """List what a file consists of; it is parsed only once."""
    return list(ast.walk(ast.parse(file.read_bytes())))


def classes() -> Iterator[tuple[Path, ast.ClassDef]]:
    for file in FILES:
        for node in nodes(file):
            if isinstance(node, ast.ClassDef):
                yield file.relative_to(ROOT), node


def test_no_two_classes_of_tools_and_tests_share_a_name() -> None:
    places = defaultdict(list)
    for file, node in classes():
        places[node.name].append(f"{file}:{node.lineno}")
    assert len(places) > 100
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_no_class_of_tools_and_tests_keeps_more_than_a_reader_can_hold_in_mind() -> None:
    kept = {f"{file}: {node.name}": len(attributes(node)) for file, node in classes()}
    assert {name: count for name, count in kept.items() if count > MOST_ATTRIBUTES} == {}


def test_no_test_imports_from_another_test() -> None:
    for file in FILES:
        for node in nodes(file):
            if isinstance(node, ast.ImportFrom) and node.module:
                assert not node.module.split(".")[-1].startswith("test_"), f"{file}:{node.lineno}"
