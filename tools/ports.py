"""Where a process started by the tests, the demo or the benchmark can listen."""

from __future__ import annotations

import os
import random
import socket
from contextlib import suppress


def free_port() -> int:
    """Return a TCP port nobody listens on, from where the kernel takes none by itself.

    Each of pytest's workers has ports of its own: none takes what another will listen on at once.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw63")[2:])
    while True:
        port = random.randrange(10_000 + worker, 32_000, 64)
        with socket.socket() as candidate, suppress(OSError):
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            candidate.bind(("0.0.0.0", port))
            return port
