"""Talk to the agent in the browser, through the real phone path: `python -m tools.phone`.

Prints a link to a page on 127.0.0.1. Its microphone is a phone on the strict phone network of the
tests, which places a signed call to the real app, a process of its own.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading

from tools.demo.voices import Voices
from tools.phone.exchange import Exchange, SimulatedExchange
from tools.phone.web import PhoneServer


def serve(exchange: Exchange, port: int) -> None:
    """Serve the page until interrupted."""
    server = PhoneServer(exchange, port)
    exchange.network.run(server.open())
    print(f"\n  Talk to your agent: {server.link}\n\nCtrl-C ends it.", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print("\nHanging up.")
    finally:
        exchange.network.run(server.close())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.phone", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="of the page (0: a free one)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print("Loading the ears and the mouth ...", flush=True)
    voices = Voices()
    for what in voices.missing:
        print(f"not real: {what}")
    exchange = SimulatedExchange(voices.ears, voices.mouth)
    exchange.real += voices.real
    exchange.simulated += voices.missing
    print("Starting the app ...", flush=True)
    with exchange:
        serve(exchange, options.port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
