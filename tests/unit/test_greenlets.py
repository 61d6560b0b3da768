"""What is done otherwise where gevent runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from threading import Lock

from greenlets import new_lock, runs_gevent
from tools.app_process import START_SECONDS

ROOT = Path(__file__).parent.parent.parent
GREENLETS = """
import gevent.monkey
gevent.monkey.patch_all()
from threading import Thread
from time import sleep
from greenlets import new_lock, runs_gevent
assert runs_gevent()
lock, seen, threads = new_lock(), [], []
def work(name):
    with lock:
        seen.append(name)
        sleep(0.01)
        seen.append(name)
    try:
        with lock:
            raise ValueError
    except ValueError:
        pass
for name in "ab":
    threads.append(Thread(target=work, args=(name,)))
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(30)
assert seen == ["a", "a", "b", "b"], seen
"""


def test_a_lock_keeps_greenlets_apart_and_is_given_back_by_an_exception() -> None:
    command = [sys.executable, "-c", GREENLETS]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=START_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr


def test_without_gevent_a_lock_is_that_of_threads() -> None:
    assert not runs_gevent()
    assert isinstance(new_lock(), type(Lock()))
