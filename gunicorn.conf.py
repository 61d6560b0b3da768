"""How gunicorn serves the app in production: `gunicorn app:app` reads this file by itself."""

import gc
import os
import signal
from typing import Any

import utils


def _port() -> int:
    try:
        return int(utils.settings().port)
    except ValueError as problems:
        raise SystemExit(str(problems)) from None
    finally:
        utils.settings.cache_clear()  # each worker reads them anew, so that a reload does too


bind = f"0.0.0.0:{_port()}"
worker_class = "gevent"  # hundreds of calls a process; a thread each would be too many
workers = int(os.environ.get("WEB_CONCURRENCY", "1"))
worker_connections = 2000
os.environ.setdefault("GEVENT_TRACK_GREENLET_TREE", "no")  # who spawned whom is 5 KB a call
graceful_timeout = 30  # seconds in which a stopping worker's calls must come to a pause


def _poll_at_once() -> None:
    """Have `poll(0)` look and return, as without gevent, whose own lets a round of its loop pass.

    Before each request the workflow's HTTP client asks it about every idle connection, with all
    other requests waiting: at 200 calls replies came half a second late.
    """
    from gevent.monkey import get_original  # noqa: PLC0415
    from gevent.select import poll  # noqa: PLC0415

    plain, wait = get_original("select", "poll"), poll.poll

    def look(self: Any, timeout: float | None = None) -> list[tuple[int, int]]:
        if timeout != 0:
            return wait(self, timeout)
        glance = plain()
        for file, events in self.fds.items():
            glance.register(file, events)
        return glance.poll(0)

    poll.poll = look


def post_worker_init(worker: Any) -> None:
    """Print the banner in each worker, once gevent has patched it, and get ready for calls."""
    import gevent  # noqa: PLC0415

    from app import start, workflow  # noqa: PLC0415
    from voice_handler import DRAINING  # noqa: PLC0415

    start()
    _poll_at_once()
    workflow()  # loads what the first caller would have to wait for
    gc.freeze()  # what is loaded stays: looking through it for garbage would hold up every call

    def drain(*args: Any) -> None:
        # It goes on accepting for a second: a call handed over now could come back to it.
        gevent.spawn_later(1.5, DRAINING.set)
        worker.handle_exit(*args)

    signal.signal(signal.SIGTERM, drain)
