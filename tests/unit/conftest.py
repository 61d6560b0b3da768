"""What holds for every test of a rule: nothing is left to it by another one."""

from __future__ import annotations

import pytest

from upstream import VOICE, WORKFLOW


@pytest.fixture(autouse=True)
def all_is_well_upstream() -> None:
    """Forget how OpenAI and the workflow served the calls of other tests."""
    for service in (VOICE, WORKFLOW):
        service.succeed()
