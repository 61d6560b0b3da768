"""`python -m tools.simulator serve`: an OpenAI and a Twilio to try the app's commands with."""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Callable

from tools.app_process import DEFAULTS
from tools.simulator.openai_server import OpenAISimulator
from tools.simulator.speech import ToneVoice
from tools.simulator.twilio_network import PhoneNetwork

API_KEY = "sk-simulated"
AUTH_TOKEN = "0" * 32
BEFORE = """\
# Put these lines into .env, and start the app or try its --check and --setup.
# They never change, so they may stay there. Ctrl-C ends the simulated OpenAI and Twilio."""


def add_serve(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], None]:
    """Play OpenAI and a Twilio account with a number until interrupted; print the `.env` for it."""
    add = parser.add_argument
    add("--openai-port", type=int, default=8001, help="OPENAI_BASE_URL's (0: a free one)")
    add("--twilio-port", type=int, default=8002, help="TWILIO_API_URL's (0: a free one)")
    return run_serve


def run_serve(options: argparse.Namespace) -> None:
    """Serve both; print the settings first, then what was refused."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    voice = ToneVoice()
    with (
        OpenAISimulator(
            ears=voice, mouth=voice, api_key=API_KEY, port=options.openai_port
        ) as openai,
        PhoneNetwork(auth_token=AUTH_TOKEN, port=options.twilio_port) as network,
    ):
        try:
            print(BEFORE, *env_lines(openai, network), sep="\n", flush=True)
            threading.Event().wait()
        except KeyboardInterrupt:
            for refusal in (*openai.refusals, *network.refusals):
                print("# refused, as by the real one:", refusal, flush=True)


def env_lines(openai: OpenAISimulator, network: PhoneNetwork) -> list[str]:
    """Return the lines of `.env` that lead the app to both."""
    settings = {
        "TWILIO_ACCOUNT_SID": network.account_sid,
        "TWILIO_AUTH_TOKEN": network.auth_token,
        "TWILIO_PHONE_NUMBER": network.number,
        "TWILIO_API_URL": network.api_url,
        "WEBHOOK_URL": f"http://127.0.0.1:{DEFAULTS['PORT']}",
        "OPENAI_API_KEY": openai.api_key,
        "OPENAI_BASE_URL": openai.base_url,
        "AGENT_WORKFLOW_ID": "workflow.json",
    }
    return [f"{name}={value}" for name, value in settings.items()]
