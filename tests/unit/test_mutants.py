"""The broken rules of `tools/mutate.py` fit the code: each has one place in it, and parses."""

import ast

import pytest

from tools.mutate import MUTANTS, ROOT, Mutant, mutants

ALL = list(mutants(MUTANTS.read_text(encoding="utf-8")))


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.name)
def test_a_mutant_fits_the_code(mutant: Mutant) -> None:
    source = (ROOT / mutant.file).read_text(encoding="utf-8")
    assert source.count(mutant.old) == 1
    ast.parse(source.replace(mutant.old, mutant.new))


def test_no_two_mutants_have_the_same_name() -> None:
    assert len({mutant.name for mutant in ALL}) == len(ALL)
