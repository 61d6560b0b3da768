"""The real app, as it is: `python app.py`, a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

from dotenv import dotenv_values

ROOT = Path(__file__).parent.parent.parent
DEFAULTS = {name: value or "" for name, value in dotenv_values(ROOT / ".env.example").items()}


class Service:
    """The app while it runs; a context manager that waits until it serves, and ends it."""

    def __init__(self, port: int, settings: dict[str, str]) -> None:
        self.lines: list[str] = []  # of its log
        self.url = f"http://127.0.0.1:{port}"
        # A blank means the default: no setting of a developer's own .env gets in.
        blank = dict.fromkeys(DEFAULTS, "")
        ours = {"PORT": str(port), "NO_PROXY": "127.0.0.1", "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "app.py"],
            cwd=ROOT,
            env={**os.environ, **blank, **ours, **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Service:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while self._process.poll() is None:
            try:
                direct.open(f"{self.url}/health", timeout=5).close()
                return self
            except OSError:  # it is still starting
                time.sleep(0.05)
        self._reader.join(5)
        raise SystemExit("The app did not start:\n" + "\n".join(self.lines))

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._reader.join(5)

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self.lines.append(line.rstrip())
