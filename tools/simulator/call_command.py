"""`python -m tools.simulator call`: one call to an app that runs, from the command line."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tools.app_process import DEFAULTS, own_settings
from tools.simulator.twilio_network import Call, PhoneNetwork

NO_SETTINGS = (
    "Which app? Fill in .env, for instance with what `serve` prints, or give its settings: --help"
)


def add_call(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], None]:
    """Call the app that runs with this `.env`, in tones, and print the call as it goes."""
    add = parser.add_argument
    own = own_settings()
    local = f"http://127.0.0.1:{own['PORT'] or DEFAULTS['PORT']}/voice"
    add("--voice-url", default=local, help="where the app's /voice really listens")
    add("--public-url", default=own["WEBHOOK_URL"], help="the app's WEBHOOK_URL")
    add("--auth-token", default=own["TWILIO_AUTH_TOKEN"], help="its TWILIO_AUTH_TOKEN")
    add("--account-sid", default=own["TWILIO_ACCOUNT_SID"], help="its TWILIO_ACCOUNT_SID")
    add("--number", default=own["TWILIO_PHONE_NUMBER"], help="its TWILIO_PHONE_NUMBER")
    add("--port", type=int, default=0, help="port of the REST API (TWILIO_API_URL)")
    add("--say", action="append", default=[], help="what the caller says, in turn")
    add("--quiet", type=float, default=2.0, help="seconds that end the agent's turn")
    add("--patience", type=float, default=15.0, help="seconds to wait for an answer")
    add("--record", help="WAV file to write: caller left, agent right")
    return run_call


def run_call(options: argparse.Namespace) -> None:
    """Speak each sentence when the agent has finished, then hang up."""
    _expect_settings(options)
    with PhoneNetwork(
        account_sid=options.account_sid,
        auth_token=options.auth_token,
        number=options.number,
        voice_url=options.voice_url,
        public_url=options.public_url,
        port=options.port,
    ) as network:
        print("REST API at", network.api_url, flush=True)
        call = network.call()
        printer = threading.Thread(target=_print_timeline, args=(call,), daemon=True)
        printer.start()
        try:
            _talk(call, options)
        finally:
            call.hang_up()
            call.wait_ended()
            printer.join(5)
            print("heard:", call.heard())
            print(*network.refusals, sep="\n")
        if options.record:
            Path(options.record).write_bytes(call.recording())


def _expect_settings(options: argparse.Namespace) -> None:
    """Raise SystemExit if the app's settings aren't known: it would refuse the call."""
    if not (options.public_url and options.auth_token and options.account_sid and options.number):
        raise SystemExit(NO_SETTINGS)


def _talk(call: Call, options: argparse.Namespace) -> None:
    _wait_for_the_agent(call, options.quiet, options.patience)
    for sentence in options.say:
        call.say(sentence)
        call.wait_until_silent(timeout=60)
        _wait_for_the_agent(call, options.quiet, options.patience)


def _wait_for_the_agent(call: Call, seconds: float, patience: float) -> None:
    """Wait until the agent has spoken since now and finished, or never began."""
    since = call.now() if call.quiet_for else 0.0

    def done(_: Call) -> bool:
        has_spoken = bool(call.quiet_for) and call.now() - call.quiet_for >= since
        finished = call.quiet_for >= seconds if has_spoken else call.now() > since + patience
        return call.ended or finished

    call.wait_until(done, 600, "end of the agent's words")


def _print_timeline(call: Call) -> None:
    seen = 0
    while True:
        over = call.ended
        for entry in call.timeline[seen:]:
            seen += 1
            if entry.kind != "media_received":
                print(entry, flush=True)
        if over:
            return
        call.wait_until(partial(_has_more, seen), 3600)


def _has_more(seen: int, call: Call) -> bool:
    return call.ended or len(call.timeline) > seen
