"""How long anybody waits for what is to happen."""

from __future__ import annotations

PATIENCE = 30.0
"""Seconds. A machine may stand still for some of them; a wait that succeeds costs no more."""
