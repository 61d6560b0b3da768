"""Every way in which the simulators can be told to fail is tried by a test of theirs."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from tools.simulator.media_stream import StreamFaults
from tools.simulator.openai_knobs import ModelKnobs, RealtimeBehaviour
from tools.simulator.tunnel import Meddling

TESTS = [file for file in Path(__file__).parent.glob("test_simulator_*.py")]
TEXT = "".join(file.read_text("utf-8") for file in TESTS if file != Path(__file__))


@pytest.mark.parametrize("knobs", [RealtimeBehaviour, ModelKnobs, StreamFaults, Meddling])
def test_every_knob_has_a_test(knobs: Any) -> None:
    assert [knob.name for knob in fields(knobs) if knob.name not in TEXT] == []
