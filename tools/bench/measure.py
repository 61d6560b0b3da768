"""The app in a process of its own, and what the kernel tells of it: CPU, memory, what is open."""

from __future__ import annotations

import os
import platform
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from dotenv import dotenv_values

HERE = Path(__file__).resolve().parent.parent.parent
TREE = Path(os.environ.get("APP_UNDER_TEST", HERE)).resolve()
GUNICORN = [sys.executable, "-m", "gunicorn"]
BARE = "bare"
"""The mode that isn't the app, but what it is measured against, under gunicorn's gevent worker."""
COMMANDS = {
    "threads": [sys.executable, "app.py"],
    "gevent": [*GUNICORN, "app:app"],
    BARE: [*GUNICORN, "--worker-class=gevent", "--worker-connections=2000", "app:app"],
}
BARE_FOLDER = Path(__file__).parent / "bare"
PACKAGES = ["flask", "flask-sock", "simple-websocket", "wsproto", "websocket-client", "openai"]
PACKAGES += ["httpx2", "gunicorn", "gevent", "greenlet"]
START_SECONDS = 30
CPU_LIMIT, LATENESS_LIMIT = 85.0, 5.0  # the generator's: % of its core, p99 in ms
QUIET_SECONDS = 20.0  # in which the cores may become quiet before a run


class BenchError(Exception):
    """What makes it impossible to measure, said in a sentence or two."""


class AppFailed(BenchError):
    """The app doesn't start, dies, or serves no call."""


class Held(NamedTuple):
    """What a process holds open."""

    threads: int
    files: int
    sockets: int


class App:
    """The app of a checkout on a core of its own; every line it prints goes to a file.

    `started` is the time from its start to its first answer to /health, in seconds.
    """

    def __init__(
        self, mode: str, core: int, settings: Mapping[str, str], tree: Path = TREE
    ) -> None:
        names = dotenv_values(HERE / ".env.example")
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        env = {**kept, "NO_COLOR": "1", **dict.fromkeys(names, ""), **settings}
        self.port = int(settings["PORT"])
        self._folder = BARE_FOLDER if mode == BARE else tree
        self._log = tempfile.TemporaryFile("a+b")  # noqa: SIM115 - closed in `stop`
        own = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {core})  # which its children keep
        begun = time.monotonic()
        self._process = subprocess.Popen(
            COMMANDS[mode],
            cwd=self._folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        os.sched_setaffinity(0, own)
        try:
            while not self._is_healthy():
                self.check()
                if time.monotonic() > begun + START_SECONDS:
                    raise AppFailed(
                        f"The app in {self._folder} doesn't answer.\n{self.last_lines()}"
                    )
                time.sleep(0.005)
            self.started = time.monotonic() - begun
            self.worker = self._find_worker()
        except BaseException:
            self.stop()
            raise

    def _is_healthy(self) -> bool:
        request = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        try:
            with socket.create_connection(("127.0.0.1", self.port), 2) as connection:
                connection.sendall(request)
                return b" 200 " in connection.recv(4096).split(b"\r\n")[0]
        except OSError:
            return False

    def _find_worker(self) -> int:
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
        return int(children[0]) if children else pid

    def check(self) -> None:
        """Raise AppFailed if the app has died."""
        code = self._process.poll()
        if code is not None or not Path(f"/proc/{getattr(self, 'worker', 'self')}").exists():
            raise AppFailed(
                f"The app in {self._folder} has died ({code}). It said last:\n{self.last_lines()}"
            )

    def lines(self) -> list[str]:
        """Return every line it has printed."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace").splitlines()

    def last_lines(self) -> str:
        """Return the last lines it has printed."""
        return "\n".join(f"    {line}" for line in self.lines()[-12:]) or "    (nothing)"

    def stop(self) -> None:
        """End it at once, with its worker."""
        pid = self._process.pid
        with suppress(OSError):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
            for child in map(int, children):
                os.kill(child, signal.SIGKILL)
        self._process.kill()
        self._process.wait(10)
        self._log.close()

    # --- what its worker uses ---------------------------------------------------------------

    def cpu(self) -> float:
        """Return the seconds of CPU that the worker has used, ended threads included.

        It is the process's CPU clock: utime + stime of /proc/PID/stat, but to the nanosecond.
        """
        return time.clock_gettime((~self.worker << 3) | 2)

    def memory(self) -> float:
        """Return the worker's resident memory in MB (`Rss` of /proc/PID/smaps_rollup)."""
        for line in Path(f"/proc/{self.worker}/smaps_rollup").read_text("ascii").splitlines():
            if line.startswith("Rss:"):
                return int(line.split()[1]) / 1024
        raise BenchError("This kernel doesn't tell the resident memory of a process.")

    def held(self, apart_from: Iterable[int] = ()) -> Held:
        """Count what the worker holds; not the connections to `apart_from`, which are peers' ports.

        Selectors aren't counted: werkzeug leaves one to the garbage collector now and then.
        """
        names = []
        for link in Path(f"/proc/{self.worker}/fd").iterdir():
            with suppress(FileNotFoundError):
                names.append(os.readlink(link))
        kept = set(apart_from)
        rows = Path(f"/proc/{self.worker}/net/tcp").read_text("ascii").splitlines()[1:]
        excepted = 0
        for row in map(str.split, rows):
            if f"socket:[{row[9]}]" in names and int(row[1].split(":")[1], 16) in kept:
                excepted += 1
        files = [name for name in names if name != "anon_inode:[eventpoll]"]
        sockets = sum(name.startswith("socket:") for name in files)
        threads = len(list(Path(f"/proc/{self.worker}/task").iterdir()))
        return Held(threads, len(files) - excepted, sockets - excepted)


# --- the machine ------------------------------------------------------------------------------


def two_cores() -> tuple[int, int]:
    """Choose a core for the generator and one for the app, not of one physical core if possible.

    Raises BenchError if this process may only use one.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise BenchError(
            "The generator needs a core of its own beside the app's, and this process may use"
            f" only {len(cores)}: what came out would say nothing about the app."
        )
    generator = cores[0]
    file = Path(f"/sys/devices/system/cpu/cpu{generator}/topology/thread_siblings_list")
    siblings = file.read_text("ascii").strip() if file.exists() else ""
    apart = [core for core in cores[1:] if str(core) not in siblings.replace("-", ",").split(",")]
    return generator, (apart or cores[1:])[0]


@contextmanager
def prepared() -> Iterator[tuple[int, int]]:
    """Give the generator's core and the app's, and let this process open as many files as it may.

    SIGTERM ends the measurement as Ctrl-C does. Raises BenchError.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the app is stopped, too
    affinity = os.sched_getaffinity(0)
    try:
        yield two_cores()
    finally:
        os.sched_setaffinity(0, affinity)


def busy(core: int) -> float:
    """Return the seconds that a core has been busy, for whomever, or was taken away by the host."""
    tick = os.sysconf("SC_CLK_TCK")
    for line in Path("/proc/stat").read_text("ascii").splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _wait, irq, softirq, steal, *_ = map(int, fields)
            return (user + nice + system + irq + softirq + steal) / tick
    raise BenchError(f"The kernel tells nothing of core {core}.")


class Used(NamedTuple):
    """Shares of a core, in percent: of the app's worker, the generator, and everyone else."""

    app: float
    generator: float
    others: float


class Meter:
    """Measures the CPU used from its making on."""

    def __init__(self, app: App, cores: tuple[int, int]) -> None:
        self._app, self._cores = app, cores
        self._then = self._now()

    def _now(self) -> list[float]:
        used = [self._app.cpu(), time.process_time()]
        return [time.monotonic(), *used, *(busy(core) for core in self._cores)]

    def read(self) -> Used:
        """Return the shares; `others` is that of the core where they took more."""
        differences = (b - a for a, b in zip(self._then, self._now(), strict=True))
        wall, app, generator, generator_core, app_core = differences
        others = max(generator_core - generator, app_core - app, 0.0)
        return Used(*(100 * seconds / wall for seconds in (app, generator, others)))


def bottleneck(metrics: Mapping[str, float], cpu_limit: float, lateness_limit: float) -> str:
    """Say why a run doesn't count, or return nothing: was it the generator that was measured?

    The limits are of its CPU, in percent of a core, and of the p99 of its lateness, in ms.
    """
    cpu, lateness = metrics["generator_cpu_percent"], metrics["generator_lateness_p99_ms"]
    others = metrics["others_cpu_percent"]
    if cpu > cpu_limit:
        return (
            f"refused: the generator is the bottleneck, it used {cpu:.0f} % of its core"
            f" (at most {cpu_limit:g} %)"
        )
    if not lateness <= lateness_limit:
        return (
            f"refused: the generator is the bottleneck, it sent frames {lateness:.1f} ms late"
            f" (p99, at most {lateness_limit:g} ms; it used {cpu:.0f} % of its core, and"
            f" others {others:.0f} % of one)"
        )
    return ""


def wait_for_quiet(cores: tuple[int, int], timeout: float) -> None:
    """Wait until nobody uses the cores, for half a second, or `timeout` seconds at most."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        before = sum(map(busy, cores))
        time.sleep(0.5)
        if sum(map(busy, cores)) - before < 0.03:
            return


def machine() -> dict[str, Any]:
    """Return what the figures depend on: machine, system, versions, and the tree measured."""
    model = "unknown"
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                model = line.split(":")[1].strip()
                break
    versions = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    git = ["git", "-C", str(TREE), "describe", "--always", "--dirty"]
    with suppress(OSError, subprocess.SubprocessError):
        answer = subprocess.run(git, capture_output=True, text=True, timeout=10, check=True)
        versions["commit"] = answer.stdout.strip()
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": versions,
    }
