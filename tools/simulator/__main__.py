"""Run the simulators as a process: `python -m tools.simulator serve`, and `… call` beside it."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Callable

from tools.simulator.call_command import add_call
from tools.simulator.openai_server import OpenAISimulator
from tools.simulator.serve_command import add_serve
from tools.simulator.speech import ToneVoice


def add_openai(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], None]:
    """Play OpenAI until interrupted."""
    parser.add_argument("--port", type=int, default=0, help="port to listen on (0: a free one)")
    parser.add_argument("--api-key", default="sk-test")
    parser.add_argument("--assistant", action="append", default=[], help="id that shall exist")
    return run_openai


def run_openai(options: argparse.Namespace) -> None:
    """Serve with tones for ears and mouth; print the base URL first, then what was refused."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    voice = ToneVoice()
    simulator = OpenAISimulator(ears=voice, mouth=voice, api_key=options.api_key, port=options.port)
    simulator.assistants.update(options.assistant)
    with simulator:
        try:
            print(simulator.base_url, flush=True)
            threading.Event().wait()
        except KeyboardInterrupt:
            print(*simulator.refusals, sep="\n", flush=True)


COMMANDS: dict[str, Callable[[argparse.ArgumentParser], Callable[[argparse.Namespace], None]]] = {
    "serve": add_serve,
    "call": add_call,
    "openai": add_openai,
}


def main() -> None:
    """Run the command named first on the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.simulator", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="|".join(COMMANDS))
    for name, add in COMMANDS.items():
        command = commands.add_parser(name, help=add.__doc__, description=add.__doc__)
        command.set_defaults(run=add(command))
    options = parser.parse_args()
    try:
        options.run(options)
    except OSError as error:  # a port is taken
        sys.exit(f"{error}. Is it running already?")


if __name__ == "__main__":
    main()
