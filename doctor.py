"""`python app.py --check` and `--setup`: what a call needs, tried before the first caller does."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from io import TextIOWrapper
from typing import NamedTuple

from commands import app_command
from doctor_address import (
    address_is_public,
    address_leads_here,
    port_is_ours,
    signed_request_gets_through,
    signed_upgrade_gets_through,
)
from doctor_examination import Examination, Fault, NotApplicable
from doctor_openai import (
    key_is_accepted,
    sentence_is_read,
    session_is_accepted,
    transcription_model_exists,
    voice_model_exists,
    workflow_answers,
    workflow_model_exists,
)
from doctor_twilio import (
    account_is_active,
    answer_calls_here,
    calls_are_answered_here,
    number_is_ours,
    present_route,
    wanted_route,
)
from logs import open_log
from settings import settings
from settings_reading import SettingsError

COST = "OpenAI is asked for one sentence and one reply, a cent or two; no call is placed."


class State(str, Enum):
    """How a check ended."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


MARKS = {State.OK: "✓", State.FAILED: "✗", State.SKIPPED: "–"}


class Check(NamedTuple):
    """One line of the report.

    `examine` returns what is well, or raises Fault or NotApplicable. It isn't tried if the check
    that it `needs` has failed.
    """

    name: str
    examine: Callable[[Examination], str]
    needs: str = "settings"


@dataclass(frozen=True)
class Finding:
    """What came of a check."""

    name: str
    state: State
    words: str

    def __str__(self) -> str:
        """Return it as a line of the report, with more lines below if it has several."""
        words = self.words.replace("\n", "\n  ")
        return f"{MARKS[self.state]} {self.name}: {words}"


def settings_are_right(_: Examination) -> str:
    """Read the settings."""
    try:
        doubts = settings().warnings()
    except SettingsError as problems:
        raise Fault(str(problems)) from problems
    return "\n".join(["complete", *doubts])


SETTINGS = Check("settings", settings_are_right, needs="")
ADDRESS = Check("WEBHOOK_URL", address_is_public)
ACCOUNT = Check("Twilio account", account_is_active)
NUMBER = Check("TWILIO_PHONE_NUMBER", number_is_ours, needs="Twilio account")

CHECKS = (
    SETTINGS,
    Check("OPENAI_API_KEY", key_is_accepted),
    Check("REALTIME_MODEL", voice_model_exists, needs="OPENAI_API_KEY"),
    Check("transcription model", transcription_model_exists, needs="OPENAI_API_KEY"),
    Check("voice session", session_is_accepted, needs="REALTIME_MODEL"),
    Check("voice", sentence_is_read, needs="voice session"),
    Check("workflow's model", workflow_model_exists, needs="OPENAI_API_KEY"),
    Check("workflow", workflow_answers, needs="workflow's model"),
    ACCOUNT,
    NUMBER,
    Check("number's webhook", calls_are_answered_here, needs="TWILIO_PHONE_NUMBER"),
    Check("PORT", port_is_ours),
    Check("WEBHOOK_URL", address_leads_here, needs="PORT"),
    Check("POST /voice", signed_request_gets_through, needs="WEBHOOK_URL"),
    Check("/media-stream", signed_upgrade_gets_through, needs="WEBHOOK_URL"),
)


# --- checking -------------------------------------------------------------------------------------


def findings(examination: Examination, checks: Iterable[Check]) -> Iterator[Finding]:
    """Try the checks in their order; what depends on a failed one is skipped."""
    waiting: set[str] = set()
    for check in checks:
        if check.name in waiting:
            found = Finding(check.name, State.SKIPPED, f"skipped, needs {check.needs}")
        else:
            found = result(check, examination)
        if found.state is State.FAILED:
            waiting |= waiting_for(check.name)
        yield found


def waiting_for(name: str) -> set[str]:
    """Return the names of the checks that can't be tried if one has failed."""
    without = {name}
    for check in CHECKS:
        if check.needs in without:
            without.add(check.name)
    return without - {name}


def result(check: Check, examination: Examination) -> Finding:
    """Try one check."""
    try:
        state, words = State.OK, check.examine(examination)
    except Fault as fault:
        state, words = State.FAILED, str(fault)
    except NotApplicable as reason:
        state, words = State.SKIPPED, str(reason)
    return Finding(check.name, state, examination.without_secrets(words))


def check_all(examination: Examination) -> int:
    """Report every finding as soon as it is known; return the exit status."""
    print(COST, flush=True)
    failed = 0
    waiting: set[str] = set()  # told of with what they wait for
    for found in findings(examination, CHECKS):
        if found.name in waiting:
            continue
        print(found, flush=True)
        if found.state is State.FAILED:
            failed += 1
            waiting |= tell_of_waiting(found.name)
    print(f"{failed} of {len(CHECKS)} checks failed." if failed else "All is well.")
    return int(failed > 0)


def tell_of_waiting(failed: str) -> set[str]:
    """Say in one line how many checks wait for a failed one; return their names."""
    waiting = waiting_for(failed)
    if len(waiting) == 1:
        print("  1 more check waits for this.", flush=True)
    elif waiting:
        print(f"  {len(waiting)} more checks wait for this.", flush=True)
    return waiting


def check_all_as_json(examination: Examination) -> int:
    """Print all findings as one object; return the exit status."""
    found = list(findings(examination, CHECKS))
    ok = all(each.state is not State.FAILED for each in found)
    checks = [asdict(each) for each in found]
    print(json.dumps({"ok": ok, "checks": checks}, indent=2))
    return int(not ok)


# --- setting up -----------------------------------------------------------------------------------


def set_up(examination: Examination, agrees: Callable[[], bool]) -> int:
    """Have calls to the number answered here, if the owner agrees; return the exit status."""
    for found in findings(examination, (SETTINGS, ADDRESS, ACCOUNT, NUMBER)):
        print(found)
        if found.state is State.FAILED:
            return 1
    now, wanted = present_route(examination), wanted_route(examination)
    if now == wanted:
        print("Nothing to change: calls to the number are answered here.")
        return 0
    number = examination.settings.twilio_phone_number
    print(f"Calls to {number} now lead to\n  {now}\nand would lead to\n  {wanted}")
    if not agrees():
        print("Nothing was changed.")
        return 1
    found = result(Check("number's webhook", answer_calls_here), examination)
    print(found)
    return int(found.state is State.FAILED)


def owner_agrees() -> bool:
    """Ask on the terminal; whoever can't or won't answer doesn't agree."""
    try:
        answer = input("Change it? [y/N] ")
    except (EOFError, KeyboardInterrupt):
        print()
        return False
    return answer.strip().lower() in ("y", "yes")


# --- the command line -----------------------------------------------------------------------------


def main(arguments: Sequence[str]) -> int:
    """Do what `python app.py` was asked for by its arguments; return the exit status."""
    options = parsed(arguments)
    open_log()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # it may know no check marks
    with Examination() as examination:
        if options.setup:
            return set_up(examination, (lambda: True) if options.yes else owner_agrees)
        if options.json:
            return check_all_as_json(examination)
        return check_all(examination)


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the arguments; ends the program with a usage message if they make no sense."""
    parser = argparse.ArgumentParser(
        prog=app_command(),
        description="The phone line for an OpenAI agent. Without arguments it serves calls.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--check",
        action="store_true",
        help="try all that a call needs, and say what to fix; costs a cent or two, places no call",
    )
    what.add_argument(
        "--setup",
        action="store_true",
        help="have calls to TWILIO_PHONE_NUMBER lead to WEBHOOK_URL; shows the change, and asks",
    )
    parser.add_argument("--json", action="store_true", help="with --check: print JSON")
    parser.add_argument("--yes", action="store_true", help="with --setup: don't ask")
    options = parser.parse_args(arguments)
    if options.json and not options.check:
        parser.error("--json goes with --check")
    if options.yes and not options.setup:
        parser.error("--yes goes with --setup")
    return options
