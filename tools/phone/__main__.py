"""Talk to the agent in the browser, through the real phone path: `python -m tools.phone`.

Prints a link to a page on 127.0.0.1. Its microphone is a phone on the strict phone network of the
tests, which places a signed call to the real app, a process of its own.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading

from tools.app_process import own_settings
from tools.demo.voices import Voices
from tools.phone.exchange import (
    Exchange,
    LiveExchange,
    NotStarted,
    RemoteExchange,
    SimulatedExchange,
)
from tools.phone.web import served

COSTS = "Each call uses the OpenAI account of your settings, and costs money."


def make_exchange(options: argparse.Namespace) -> Exchange:
    """Make what the phone is connected to, and say what is to be known about it."""
    if options.app:
        return RemoteExchange(options.app, own_settings())
    if options.live:
        print(COSTS, flush=True)
        return LiveExchange(own_settings())
    print("Loading the ears and the mouth ...", flush=True)
    voices = Voices(options.models)
    exchange = SimulatedExchange(voices.ears, voices.mouth)
    exchange.real += voices.real
    exchange.simulated += voices.missing
    for what in voices.missing:
        print(f"not real: {what}")
    return exchange


def serve(exchange: Exchange, port: int) -> None:
    """Serve the page until interrupted. Raises OSError if the port is taken."""
    with served(exchange, port) as server:
        try:
            print(f"\n  Talk to your agent: {server.link}\n\nCtrl-C ends it.", flush=True)
            threading.Event().wait()
        except KeyboardInterrupt:
            print("\nHanging up.")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.phone", description=__doc__)
    add = parser.add_argument
    add("--port", type=int, default=0, help="of the page (0: a free one)")
    add("--live", action="store_true", help="with the real OpenAI and your workflow; costs money")
    add("--app", help="call an app that runs already, such as https://voice.example.com")
    add("--no-models", dest="models", action="store_false", help="spare the machine: no real ears")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with make_exchange(options) as exchange:
            serve(exchange, options.port)
    except (NotStarted, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nNot started.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
