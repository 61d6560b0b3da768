"""The app in a process of its own, started from the command line and set up by its environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from dotenv import dotenv_values

from tools.process_resources import children
from tools.simulator.waiting import PATIENCE

T = TypeVar("T")

HERE = Path(__file__).parent.parent
ROOT = Path(os.environ.get("APP_UNDER_TEST", HERE))
COMMANDS = {
    "threads": [sys.executable, "app.py"],
    "gevent": [sys.executable, "-m", "gunicorn", "app:app"],
}
DEFAULTS = {name: value or "" for name, value in dotenv_values(HERE / ".env.example").items()}
SETTINGS = tuple(DEFAULTS)
START_SECONDS = 90  # a busy machine takes its time: also for a start that is refused


def eventually(
    probe: Callable[[], T], what: str, timeout: float = PATIENCE, pause: float = 0.02
) -> T:
    """Return the probe's value as soon as it is truthy; raise AssertionError after `timeout` s."""
    deadline = time.monotonic() + timeout
    while not (value := probe()):
        assert time.monotonic() < deadline, f"no {what} within {timeout} s"
        threading.Event().wait(pause)
    return value


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return an environment with every setting in it: blank means default, whatever `.env` says."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    values = {**kept, "NO_COLOR": "1", **dict.fromkeys(SETTINGS, ""), **given}
    values["WEB_CONCURRENCY"] = values["WEB_CONCURRENCY"] or "1"  # gunicorn itself takes no blank
    return values


def own_settings() -> dict[str, str]:
    """Return the owner's settings: the environment's, else those in `.env`; "" for the default."""
    in_file = dotenv_values(ROOT / ".env")
    return {name: os.environ.get(name) or in_file.get(name) or "" for name in SETTINGS}


def serves(url: str) -> bool:
    """Tell whether a process of the app answers there, and takes calls."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


class Process:
    """A process of the app, and every line it prints."""

    def __init__(self, command: list[str], env: Mapping[str, str], cwd: Path = ROOT) -> None:
        self.lines: list[str] = []
        self.settings = dict(env)
        self._process = subprocess.Popen(
            command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        self.lines.extend(line.rstrip("\n") for line in self._process.stdout)

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def pids(self) -> list[int]:
        """The process and its children (gunicorn's workers)."""
        return [self._process.pid, *children(self._process.pid)]

    @property
    def workers(self) -> list[int]:
        """The processes that serve: gunicorn's workers, else the process itself."""
        return self.pids[1:] or self.pids

    def signal(self, number: int) -> None:
        """Send the process (gunicorn's master) a signal."""
        os.kill(self._process.pid, number)

    def exit_code(self, timeout: float = START_SECONDS) -> int:
        """Wait for the process to end by itself; raise TimeoutExpired if it doesn't."""
        code = self._process.wait(timeout)
        self._reader.join(PATIENCE)
        return code

    def wait_until_it_serves(self, url: str) -> None:
        """Block until it takes calls; raise AssertionError with its output if it ends instead."""

        def is_up() -> bool:
            assert self.alive, self.output
            return serves(url)

        eventually(is_up, f"answer from {url}", START_SECONDS)

    def stop(self) -> None:
        """End it at once, with its workers."""
        for pid in reversed(self.pids) if self.alive else []:
            with suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(pid, signal.SIGKILL)
        self.exit_code()


@contextmanager
def running(url: str, settings: Mapping[str, str], mode: str = "threads") -> Iterator[Process]:
    """Run the app while it is wanted. Raise AssertionError with its output if it doesn't start."""
    process = Process(COMMANDS[mode], environment(settings))
    try:
        process.wait_until_it_serves(url)
        yield process
    finally:
        process.stop()
