"""What holds for every line that the app prints, whatever a test is about."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

STAMP = re.compile(r"(\d{4}-\d\d-\d\d[ T][\d:.,]+ )?([A-Z]+ )?(?=\[CA)")
"""What a line about a call may begin with: date, time and level."""
OF_NO_CALL = re.compile(
    r"(\d{4}-\d\d-\d\d[ T][\d:.,]+ )?([A-Z]+ )?"
    r"(\[[-\d: +]+\] \[\d+\] \[\w+\] "  # gunicorn's own
    r"|(::ffff:)?127\.0\.0\.1 - - \["  # werkzeug's own
    r"|refused |stopping when the calls |a message before a stream's start was not understood: "
    r"|=+|VOICE AGENT SYSTEM STARTED|Workflow ID: |Starting server on port "
    r"|Read /|There is no /|In Twilio's Console: |OpenAI ended the Assistants API)"
)
NOT_UNDERSTOOD = r"(?<!\d )not understood|makes no sense|\bignored\b|\bskipped\b"
"""Words about a message; a call's last line may count the utterances: `1 not understood`."""
TROUBLE = re.compile(rf"Traceback|\bbug\b|{NOT_UNDERSTOOD}", re.IGNORECASE)
END_OF_CALL = r"(call ended|ended after)"
"""A pattern of the last line about a call."""
SOUND = re.compile(r"[A-Za-z0-9+/]{100,}")  # in base64


def check_lines(
    lines: Sequence[str], about_a_call: str = "[CA", expected: Iterable[str] = ()
) -> None:
    """Check that each line about a call says so, and that none tells of trouble or has sound in it.

    A bug of ours or a message not understood is no trouble if one of the `expected` patterns is
    found in the line.
    """
    for line in lines:
        known = STAMP.sub("", line).startswith(about_a_call) or OF_NO_CALL.match(line)
        assert known, _shown("a line of no known kind", line, lines)
        assert not SOUND.search(line), _shown("sound in the log", line, lines)
        wanted = any(re.search(pattern, line) for pattern in expected)
        assert wanted or not TROUBLE.search(line), _shown("trouble in the log", line, lines)


def _shown(what: str, line: str, lines: Iterable[str]) -> str:
    return "\n".join([f"{what}: {line}", *lines])


def check_secrecy(output: str, secrets: Iterable[str]) -> None:
    """Check that nothing secret was printed, in no line at all."""
    for text in secrets:
        assert text not in output
