"""Fixtures: a running service, shared by all tests that want the same one."""

from __future__ import annotations

import functools
import logging
import os
import zlib
from collections import OrderedDict
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from tools.harness import COLLEAGUE, Service, session_file
from upstream import VOICE, WORKFLOW

if TYPE_CHECKING:
    from tools.certificate import Certificate

# What the line says by itself, in a silence that a busy machine may well make
FAR_AWAY = {"FILLER_SECONDS": "60", "IDLE_SECONDS": "300"}
MOST_AT_ONCE = 6  # processes of the app that wait for the next test that wants them

# The same examples in every run; HYPOTHESIS_PROFILE=random tries others, and keeps those that fail
hypothesis.settings.register_profile(
    "random", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

both_kinds = pytest.mark.parametrize("workflow", ["workflow.json", "asst_test"], scope="session")

# For tests of /health/upstream: a service that no others call. A reply is read to its end after its
# caller has hung up; another test's might succeed, or fail, in the midst of such a test.
undisturbed = pytest.mark.settings(GOODBYE="Goodbye from a line of its own.")


def more(*values: object) -> list[Any]:
    """Make more values of a kind for `parametrize`: the fast tier has one already."""
    mark = pytest.mark.thorough("one more of a kind")
    return [pytest.param(value, marks=mark) for value in values]


@pytest.fixture(scope="session", autouse=True)
def no_certificates(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Trust nobody: all is plain HTTP here, and every client would read a file of 200 KB first."""
    os.environ.pop("SSL_CERT_FILE", None)
    os.environ["SSL_CERT_DIR"] = str(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def all_is_well_upstream() -> None:
    """Forget how OpenAI and the workflow served the calls of other tests in this process."""
    for service in (VOICE, WORKFLOW):
        service.succeed()


class Pool:
    """Services by mode and settings; those not used for longest are stopped."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._services: OrderedDict[tuple[str, ...], Service] = OrderedDict()
        self._session_files: dict[str, Path] = {}
        self._folders = folders

    def session_file(self, changes: Mapping[str, Any]) -> Path:
        """Return a session file like the shipped one, with quicker ears and these changes."""
        key = repr(sorted(changes.items()))
        if key not in self._session_files:
            self._session_files[key] = session_file(self._folders.mktemp("session"), **changes)
        return self._session_files[key]

    @functools.cached_property
    def certificate(self) -> Certificate:
        from tools.certificate import Certificate  # noqa: PLC0415 - large, and for few tests

        return Certificate(self._folders.mktemp("certificate"))

    def get(self, mode: str, settings: Mapping[str, str], *, tls: bool) -> Service:
        named = (f"{name}={value}" for name, value in sorted(settings.items()))
        key = (mode, str(tls), *named)
        if key in self._services and not self._services[key].process.alive:
            self._services.pop(key).stop()
        if key not in self._services:
            self._services[key] = Service(mode, settings, self.certificate if tls else None)
        self._services.move_to_end(key)
        while len(self._services) > MOST_AT_ONCE:
            self._services.popitem(last=False)[1].stop()
        return self._services[key]

    def stop(self) -> None:
        for service in self._services.values():
            service.stop()


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """Keep services from test to test: starting one takes longer than many a call."""
    pool = Pool(tmp_path_factory)
    yield pool
    pool.stop()


@pytest.fixture(scope="session", params=["threads", "gevent"])
def mode(request: pytest.FixtureRequest) -> str:
    """How the app is served: `python app.py`, or gunicorn with gevent workers."""
    return str(request.param)


@pytest.fixture(scope="session")
def workflow() -> str:
    """The AGENT_WORKFLOW_ID; tests marked `both_kinds` run with each kind."""
    return "workflow.json"


@pytest.fixture
def service(
    request: pytest.FixtureRequest, pool: Pool, mode: str, workflow: str
) -> Iterator[Service]:
    """The running app.

    `@pytest.mark.settings(NAME="value")` changes its environment, `@pytest.mark.session(...)` its
    session file (see `harness.session_file`). Timers are FAR_AWAY: a test sees only what it asked
    for. When the test is over, `Service.end` checks what holds for every call.
    """
    session: dict[str, Any] = {}
    for mark in request.node.iter_markers("session"):
        session.update(*mark.args, **mark.kwargs)
    settings = {
        **FAR_AWAY,
        "AGENT_WORKFLOW_ID": workflow,
        "REALTIME_SESSION": str(pool.session_file(session)),
        "TRANSFER_NUMBER": COLLEAGUE,
        "GREETING": "Hello!",
    }
    for mark in request.node.iter_markers("settings"):
        settings.update(mark.kwargs)
    tls = request.node.get_closest_marker("tls") is not None
    service = pool.get(mode, settings, tls=tls)
    service.begin()
    yield service
    service.end()


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Keep what the app logs, and nothing else.

    Libraries log, too, and asyncio whenever something is collected that another test has left.
    """
    of_the_app = logging.Filter("voice_agent")
    caplog.handler.addFilter(of_the_app)
    yield caplog
    caplog.handler.removeFilter(of_the_app)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a run take part of the tests: `make test` takes the fast tier, CI then the rest."""
    parser.addoption("--tier", choices=["fast", "rest", "all"], default="all")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of the tier that was asked for, and together those that share a service."""
    tier = config.getoption("--tier")
    if tier != "all":
        unwanted = [item for item in items if is_fast(item) != (tier == "fast")]
        config.hook.pytest_deselected(items=unwanted)
        items[:] = [item for item in items if is_fast(item) == (tier == "fast")]
    for item in items:
        if group := group_of(item):
            item.add_marker(pytest.mark.xdist_group(group))


def group_of(item: pytest.Item) -> str:
    """Name the tests that run one after another, since they want the same unusual service.

    Starting it takes longer than many a call. The usual one is had by every worker; so is none.
    """
    wanted = [repr((mark.name, mark.args, mark.kwargs)) for mark in item.iter_markers("settings")]
    wanted += [repr((mark.name, mark.args, mark.kwargs)) for mark in item.iter_markers("session")]
    wanted += [mark.name for mark in item.iter_markers("tls")]
    if not wanted:
        return ""
    callspec = getattr(item, "callspec", None)
    params = callspec.params if callspec else {}
    of_service = [str(params.get(name, "")) for name in ("mode", "workflow")]
    return f"{zlib.crc32(''.join(wanted + of_service).encode()):08x}"


def is_fast(item: pytest.Item) -> bool:
    """Tell whether a test belongs to the fast tier: calls in one mode, with one kind of workflow.

    What takes long, or can't be kept apart from how busy the machine is, is marked `thorough`.
    """
    if item.get_closest_marker("thorough"):
        return False
    callspec = getattr(item, "callspec", None)
    params = callspec.params if callspec else {}
    if "service" not in getattr(item, "fixturenames", ()):
        return True  # another test's parameters may have the same names
    in_one_mode = params.get("mode", "gevent") == "gevent"
    of_one_kind = params.get("workflow", "workflow.json") == "workflow.json"
    return in_one_mode and of_one_kind


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks."""
    config.addinivalue_line("markers", "thorough(reason): not in the fast tier, and why")
    config.addinivalue_line("markers", "settings(**environment): of the service")
    config.addinivalue_line("markers", "tls: the service speaks TLS with OpenAI")
    config.addinivalue_line("markers", "session(changes): of the service's session file")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the app's log with a test that failed."""
    report = yield
    if report.failed and isinstance(service := item.funcargs.get("service"), Service):
        report.sections.append(("the app's log", "\n".join(service.log)))
    return report
