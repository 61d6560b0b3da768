"""How gunicorn serves the app in production: `gunicorn app:app` picks up this file.

From elsewhere, `gunicorn -c FOLDER/gunicorn.conf.py app:app` does the same.
"""

import gc
import os
import shutil
import signal
import socket
import sys
import tempfile
from threading import Timer
from typing import Any

from gunicorn.glogging import Logger

chdir = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, chdir)

from banner import tell_started  # noqa: E402
from logs import open_log  # noqa: E402
from places import LEAVING, PLACES  # noqa: E402
from settings import settings  # noqa: E402
from settings_reading import SettingsError  # noqa: E402

SHARED = "PROMETHEUS_MULTIPROC_DIR"
# By IPv6 where there is any, and by IPv4: a system's usual way to listen on `::`
EVERY_ADDRESS = "[::]" if socket.has_dualstack_ipv6() else "0.0.0.0"

try:
    bind = f"{EVERY_ADDRESS}:{settings().port}"
except SettingsError as problems:  # gunicorn would show it with a traceback
    raise SystemExit(str(problems)) from None
if settings().metrics_token and SHARED not in os.environ:  # else it is a reload
    # Where workers share their numbers; set before any of them imports prometheus_client
    os.environ[SHARED] = tempfile.mkdtemp(prefix="voice-agent-metrics-")
workers = settings().web_concurrency
settings.cache_clear()  # each worker reads them anew, so that a reload does too
worker_class = "gevent"  # hundreds of calls a process; a thread each would be too many
worker_connections = 2000
control_socket_disable = True  # two processes of one account would take it from each other
os.environ.setdefault("GEVENT_TRACK_GREENLET_TREE", "no")  # who spawned whom is 5 KB a call
NOTICE = 2  # seconds in which a proxy can learn from /health to ask another machine
graceful_timeout = 30  # seconds in which a stopping worker's calls must come to a pause


class logger_class(Logger):  # noqa: N801 - a name of gunicorn's
    """Gunicorn's own log, in the style of ours."""

    def setup(self, cfg: Any) -> None:
        """Open both."""
        super().setup(cfg)
        open_log(settings().log_format)


def on_starting(arbiter: Any) -> None:
    """Refuse what would leave callers in silence."""
    kind = arbiter.cfg.worker_class_str
    if not kind.startswith("gevent"):
        raise SystemExit(
            f"Only gevent's workers hand calls over when they stop, and a {kind} worker isn't one."
            " Run gunicorn without -k and --threads."
        )
    if arbiter.cfg.preload_app:  # gevent would patch too late
        raise SystemExit("One call would hold up all others. Run gunicorn without --preload.")


def when_ready(arbiter: Any) -> None:
    """Tell that it listens, and see to two signals better than gunicorn does.

    A reload with bad settings is refused; the workers that run go on with the old ones. A stop is
    announced before the door is closed, or connections arriving at that moment would be refused.
    """
    tell_started(settings())
    settings.cache_clear()

    def reload(*signalled: Any) -> None:
        settings.cache_clear()  # the log was opened by them at the last reload
        try:
            settings()
        except SettingsError as problems:
            one_line = " ".join(str(problems).split())
            arbiter.log.error("Not reloaded. %s", one_line)  # noqa: TRY400 - plain words
        else:
            arbiter.signal(*signalled)
        finally:
            settings.cache_clear()

    def stop(*signalled: Any) -> None:
        LEAVING.value = True
        Timer(NOTICE, arbiter.signal, signalled).start()

    signal.signal(signal.SIGHUP, reload)
    signal.signal(signal.SIGTERM, stop)


def pre_fork(_: Any, worker: Any) -> None:
    """Let the workers know how many calls they carry together."""
    worker.tally = PLACES.open_tally()


def post_fork(_: Any, worker: Any) -> None:
    """Have this worker count its own."""
    PLACES.use_tally(worker.tally)


def child_exit(_: Any, worker: Any) -> None:
    """Forget the calls of a worker that has ended: they come back, to another."""
    PLACES.close_tally(worker.tally)
    if SHARED in os.environ:
        from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415

        mark_process_dead(worker.pid)


def on_exit(_: Any) -> None:
    """Throw the workers' numbers away."""
    folder = os.environ.get(SHARED, "")
    if "voice-agent-metrics-" in folder:
        shutil.rmtree(folder, ignore_errors=True)


def post_worker_init(worker: Any) -> None:
    """Get ready for calls in each worker, once gevent has patched it."""
    import gevent  # noqa: PLC0415

    import gevent_poll  # noqa: PLC0415
    from app import start  # noqa: PLC0415
    from voice_handler import DRAINING  # noqa: PLC0415

    start()
    gevent_poll.apply()
    gc.freeze()  # what is loaded stays: looking through it for garbage would hold up every call

    def drain(*args: Any) -> None:
        # It goes on accepting for a second: a call handed over now could come back to it.
        gevent.spawn_later(1.5, DRAINING.set)
        worker.handle_exit(*args)

    signal.signal(signal.SIGTERM, drain)
