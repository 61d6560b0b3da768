"""The broken rules of `tools/mutate.py` fit the code: each has one place in it, and parses."""

import ast
from pathlib import Path

import pytest

from tools.mutate import MUTANTS, RANDOM_CALLS, ROOT, RULES, TESTS, Mutant, make_copy, mutants

ALL = list(mutants(MUTANTS.read_text(encoding="utf-8")))


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.name)
def test_a_mutant_fits_the_code(mutant: Mutant) -> None:
    source = (ROOT / mutant.file).read_text(encoding="utf-8")
    assert source.count(mutant.old) == 1
    ast.parse(source.replace(mutant.old, mutant.new))


def test_no_two_mutants_have_the_same_name() -> None:
    assert len({mutant.name for mutant in ALL}) == len(ALL)


def test_a_copy_holds_what_its_tests_import(tmp_path: Path) -> None:
    make_copy(tmp_path)
    for test in (RULES, RANDOM_CALLS, *TESTS.values()):
        for node in ast.walk(ast.parse((tmp_path / test).read_bytes())):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("tests."):
                module = f"{str(node.module).replace('.', '/')}.py"
                assert (tmp_path / module).is_file(), f"{test} imports {node.module}"
