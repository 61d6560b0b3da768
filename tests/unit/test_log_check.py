"""What the end-to-end tests demand of every line that the app prints."""

from __future__ import annotations

import pytest

from tools.log_check import NOT_UNDERSTOOD, check_lines, check_secrecy


@pytest.mark.parametrize(
    "line",
    [
        "[CA77] call started",
        "2026-11-27 10:32:07 INFO [CA77] call started",
        "2026-11-27 10:32:07,123 WARNING [CA77] Realtime is gone: closed with 4429",
        "[CA77] ended after 45 s: [hangup], 6 turns, 1 not understood",
        "[2026-11-27 10:32:07 +0000] [42] [INFO] Booting worker with pid: 43",
        "refused /voice: Twilio has not signed it",
        "2026-11-27 10:32:07 WARNING refused /voice: Twilio has not signed it",
    ],
)
def test_a_line_of_a_good_day_passes(line: str) -> None:
    check_lines([line])


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("call started", "no known kind"),
        ("[CA77] a bug in this program", "trouble"),
        ("[CA77] BUG", "trouble"),
        ("[CA77] Traceback (most recent call last):", "trouble"),
        ("Traceback (most recent call last):", "no known kind"),
        ("[CA77] ignored a message that makes no sense", "trouble"),
        ("[CA77] a message was not understood: KeyError('type')", "trouble"),
        (
            "2026-11-27 10:32:07 INFO [CA77] skipped an event of the workflow's that can't be read",
            "trouble",
        ),
        ("[CA77] relayed " + "A" * 160, "sound"),
    ],
)
def test_a_line_that_tells_of_trouble_fails_a_test(line: str, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_lines(["[CA77] call started", line, "[CA77] call ended"])


def test_trouble_that_a_test_expects_passes() -> None:
    check_lines(["[CA77] ignored a message that makes no sense"], expected=[NOT_UNDERSTOOD])
    with pytest.raises(AssertionError, match="trouble"):
        check_lines(["[CA77] a bug in this program"], expected=[NOT_UNDERSTOOD])


def test_streams_that_tell_of_no_call_may_be_allowed() -> None:
    line = "[] ignored a message that makes no sense"
    check_lines([line], "[", [NOT_UNDERSTOOD])
    with pytest.raises(AssertionError, match="no known kind"):
        check_lines([line], expected=[NOT_UNDERSTOOD])


def test_a_secret_is_found_wherever_it_is_printed() -> None:
    check_secrecy("[CA77] caller ***33", ["5552223333"])
    with pytest.raises(AssertionError):
        check_secrecy("[CA77] caller +15552223333", ["5552223333"])
