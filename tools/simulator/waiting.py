"""How long anybody waits for what is to happen."""

from __future__ import annotations

PATIENCE = 30.0
"""Seconds. A machine may stand still for some of them; a wait that succeeds costs no more."""

CATCH_UP_SECONDS = 0.2
"""How much of what a stall has eaten is made up for. The rest is lost for everybody in the call.

Else sound of seconds would pass in a moment, and a caller who cuts in would cut in on nothing.
"""
