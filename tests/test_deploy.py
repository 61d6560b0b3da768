"""The files that deploy the app are valid, and agree with it: settings, ports, time to drain."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import Signals

import pytest

from settings import Settings
from settings_reading import variables
from tests.deployments import (
    DEPLOY,
    GIVEN,
    UNIT,
    compose,
    container,
    docker,
    docker_environment,
    docker_steps,
    fly,
    gunicorn,
    heroku,
    kubernetes,
    lets_into_the_image,
    pod,
    render,
    systemd,
    text_of,
)
from tests.unit.environment import REQUIRED
from tools.app_process import ROOT, Process, environment
from tools.ports import ReservedPort
from tools.pythons import VERSIONS

DRAIN = gunicorn("NOTICE") + gunicorn("graceful_timeout")
VARIABLES = variables(Settings)
SECRET = {name for name, field in VARIABLES.items() if not field.repr}
NEEDED = {name.upper() for name in REQUIRED}
PROXY_FILES = ("deploy/Caddyfile", "deploy/nginx.conf", "deploy/haproxy.cfg")
FILES = [ROOT / name for name in ("Dockerfile", "compose.yaml", "render.yaml", "app.json")]
FILES += sorted(DEPLOY.iterdir())


# ---------------------------------------------------------------- they agree with the app


@pytest.mark.parametrize("platform", GIVEN)
def test_a_platform_gives_or_asks_for_settings_that_exist_and_are_right(platform: str) -> None:
    given = GIVEN[platform]()
    assert given.keys() <= VARIABLES.keys()
    if platform not in ("compose", "systemd"):  # these have them from .env
        assert given.keys() >= NEEDED
    changes = {name.lower(): value for name, value in given.items() if value not in (None, "%i")}
    assert Settings.model_validate({**REQUIRED, **changes})


@pytest.mark.parametrize("platform", GIVEN)
def test_no_secret_is_written_into_a_file(platform: str) -> None:
    given = GIVEN[platform]()
    assert [name for name in SECRET & given.keys() if given[name]] == []
    assert SECRET.isdisjoint(docker_environment())


def test_every_platform_waits_for_longer_than_a_drain_takes() -> None:
    (by_hand,) = re.findall(r"--stop-timeout (\d+)", text_of("Dockerfile"))
    (*_, pause) = container()["lifecycle"]["preStop"]["exec"]["command"]
    seconds = {
        "one": compose("one")["stop_grace_period"].removesuffix("s"),
        "two": compose("two")["stop_grace_period"].removesuffix("s"),
        "Docker": by_hand,
        "Kubernetes": pod()["terminationGracePeriodSeconds"] - int(pause),
        "Fly": fly("kill_timeout"),
        "Render": render()["maxShutdownDelaySeconds"],
        "systemd": systemd("TimeoutStopSec"),
    }
    short = {name: wait for name, wait in seconds.items() if int(wait) < DRAIN + 10}
    assert short == {}


def test_they_stop_it_by_the_signal_that_drains() -> None:
    assert docker("STOPSIGNAL") == fly("kill_signal") == "SIGTERM"
    assert systemd("KillSignal") in ("", "SIGTERM")  # which is systemd's own
    assert systemd("KillMode") == "mixed"


def test_all_proxies_and_probes_ask_where_it_listens() -> None:
    port = docker_environment()["PORT"]
    assert port == docker("EXPOSE") == fly("internal_port")
    for given in (GIVEN[platform]() for platform in GIVEN):
        assert given.get("PORT") in (port, "%i", None)
    (opened,) = container()["ports"]
    (service,) = kubernetes()["Service"]["spec"]["ports"]
    assert str(opened["containerPort"]) == port
    assert service["targetPort"] == opened["name"]
    assert compose("caddy")["environment"]["UPSTREAMS"] == f"one:{port} two:{port}"


@pytest.mark.parametrize("name", [*PROXY_FILES, UNIT])
def test_two_processes_on_a_machine_listen_where_its_proxy_asks(name: str) -> None:
    ports = re.findall(r"(?:127\.0\.0\.1:|@)(\d+)", text_of(name))
    assert set(ports) == {"5000", "5001"}


def test_a_process_that_drains_gets_no_more_calls() -> None:
    assert container()["readinessProbe"]["httpGet"]["path"] == "/health"
    assert "livenessProbe" not in container(), "would kill what drains"
    assert render()["healthCheckPath"] == fly("path") == "/health"
    assert "/health" in docker("HEALTHCHECK")
    assert "health_uri /health" in text_of("deploy/Caddyfile")
    assert "httpchk GET /health" in text_of("deploy/haproxy.cfg")


def test_another_process_is_there_to_take_a_call_that_comes_back() -> None:
    deployment = kubernetes()["Deployment"]["spec"]
    assert "replicas" not in deployment, "each apply would end what the autoscaler had added"
    assert kubernetes()["HorizontalPodAutoscaler"]["spec"]["minReplicas"] == 2
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert fly("min_machines_running") == "2"
    assert render()["numInstances"] == 2
    assert heroku()["formation"]["web"]["quantity"] == 2
    assert compose("one") == compose("two")


def test_it_grows_by_calls_before_a_pod_is_full() -> None:
    scaler = kubernetes()["HorizontalPodAutoscaler"]["spec"]
    (by,) = scaler["metrics"]
    assert by["pods"]["metric"]["name"] == "voice_agent_calls"
    most = GIVEN["Kubernetes"]()["MAX_CALLS"]
    assert int(by["pods"]["target"]["averageValue"]) == int(most or 0) / 2


def test_it_never_runs_as_root() -> None:
    assert int(docker("USER")) > 0
    security = container()["securityContext"]
    assert security["runAsNonRoot"]
    assert not security["allowPrivilegeEscalation"]
    assert systemd("User") not in ("", "root")


def test_the_images_python_is_one_that_is_tested() -> None:
    version = re.fullmatch(r"python:([\d.]+)-slim", docker("FROM"))
    assert version
    assert version[1] in VERSIONS


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_each_file_says_what_to_change_and_how_to_start(file: Path) -> None:
    text = file.read_text("utf-8")
    assert "To start: " in text
    assert file.name == "app.json" or "To change: " in text


OWN = {
    r"\+15550001111": "TWILIO_PHONE_NUMBER",
    "https://voice-agent.fly.dev": "WEBHOOK_URL",
    r"voice\.example\.com": "host's name|certificate",
    r"registry\.example\.com": "image",
}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
@pytest.mark.parametrize("example", OWN)
def test_what_must_be_the_owners_own_is_named_as_to_be_changed(file: Path, example: str) -> None:
    if file.name == "app.json":
        return  # its page asks for the values
    text = file.read_text("utf-8")
    header = " ".join(re.findall("^#(.*)", text.split("\n\n")[0], re.MULTILINE))
    stands_there = re.search(f"^[^#]*{example}", text, re.MULTILINE)
    told = header.partition("To change: ")[2].partition("To start: ")[0]
    assert not stands_there or re.search(OWN[example], told)


def test_the_host_s_name_stands_in_kubernetes_file_as_often_as_it_says() -> None:
    text = text_of("deploy/kubernetes.yaml")
    assert text.count("voice.example.com") == 3
    assert "the host's name (three times)" in text


def test_heroku_s_steps_lead_to_as_many_dynos_as_its_file_asks_for() -> None:
    assert "docs/deployment.md" in heroku()["description"]
    steps = text_of("docs/deployment.md").partition("### On Heroku")[2]
    web = heroku()["formation"]["web"]
    scale = f"heroku ps:scale web={web['quantity']}:{web['size']}"
    told = [
        *("heroku create --stack container", "heroku config:set", "git push heroku main"),
        *(scale, "heroku features:enable preboot"),
    ]
    assert sorted(told, key=steps.index) == told


def test_a_deployment_is_checked_where_its_app_runs() -> None:
    checks = text_of("docs/deployment.md").partition("## Checking a deployment")[2]
    folder, image = systemd("WorkingDirectory"), docker("WORKDIR")
    assert f"cd {folder} && PORT=5000 .venv/bin/python app.py --check" in checks
    assert compose("one")
    assert "docker compose exec one python app.py --check" in checks
    deployment = kubernetes()["Deployment"]["metadata"]["name"]
    assert f"kubectl exec deployment/{deployment} -- python app.py --check" in checks
    assert f'fly ssh console --app NAME --command "python {image}/app.py --check"' in checks


def test_fly_s_app_is_there_before_its_secrets_are_set() -> None:
    steps = re.findall(r"^#   fly ((?:\w+ )+)", text_of("deploy/fly.toml"), re.MULTILINE)
    assert steps == ["apps create ", "secrets set ", "deploy "]


def test_the_image_holds_the_app_and_what_its_owner_edits_and_nothing_else() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if tracked.returncode:
        pytest.skip("this is no git checkout")
    files = [ROOT / name for name in tracked.stdout.splitlines()]
    passed = filter(lets_into_the_image, files)
    inside = {str(file.relative_to(ROOT)) for file in passed}
    at_the_top = {file.name for file in files if file.parent == ROOT}
    needed = {name for name in at_the_top if name.endswith((".py", ".json"))} - {"app.json"}
    assert inside == needed | {"requirements.txt"} | {
        f"templates/{path.name}" for path in (ROOT / "templates").iterdir()
    }
    for left_behind in (".env", ".git/config", "bookings.sqlite3", "bench.json", "call.txt"):
        assert not lets_into_the_image(ROOT / left_behind), left_behind
    assert lets_into_the_image(ROOT / "my_workflow.json"), "its owner's own files"


# ---------------------------------------------------------------- they are valid

thorough = pytest.mark.thorough("it starts programs")


def check(*command: str | Path, **variables: str) -> str:
    """Run a checker; return what it printed, or raise AssertionError with that."""
    program = shutil.which(command[0], path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if not program:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(
        [program, *command[1:]],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@thorough
def test_the_dockerfile_is_as_hadolint_wants_it() -> None:
    assert check("hadolint", "Dockerfile") == ""


@thorough
def test_compose_keeps_to_its_specification() -> None:
    check("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml")


@thorough
def test_kubernetes_knows_every_field() -> None:
    told = check("kubernetes-validate", "--strict", "deploy/kubernetes.yaml")
    assert told.count(" passed ") == len(kubernetes()) == 6


@thorough
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "voice-agent@.service"
    gunicorn = Path(sys.executable).parent  # what it starts must exist
    unit.write_text(text_of(UNIT).replace("/opt/voice-agent/.venv/bin", str(gunicorn)))
    assert check("systemd-analyze", "verify", tmp_path / "voice-agent@5000.service") == ""


@thorough
def test_caddy_understands_its_file() -> None:
    host = {"WEBHOOK_URL": "https://voice.example.com"}
    caddys = compose("caddy")["environment"]
    for given, upstreams in [
        (host, ["127.0.0.1:5000", "127.0.0.1:5001"]),
        ({**caddys, **host}, ["one:5000", "two:5000"]),
    ]:
        command = ("caddy", "adapt", "--adapter", "caddyfile", "--config", "deploy/Caddyfile")
        assert re.findall(r'"dial":"(.*?)"', check(*command, **given)) == upstreams


# ---------------------------------------------------------------- the image's steps, one by one


@pytest.fixture
def clean_root() -> Iterator[Path]:
    """An empty folder that every user may read."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def test_the_image_has_no_step_but_those_that_are_taken_below() -> None:
    assert docker_steps() == [
        *("FROM", "ENV", "WORKDIR", "COPY", "RUN", "COPY"),
        *("USER", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL", "CMD"),
    ]
    copied = re.findall(r"^COPY (.*)", text_of("Dockerfile"), re.MULTILINE)
    assert copied == ["requirements.txt .", ". ."]


def copy_as_the_image_does(folder: Path) -> None:
    for path in filter(lets_into_the_image, ROOT.iterdir()):
        copy = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, folder / path.name)


def install_as_the_image_does(app: Path, python: Path) -> None:
    """Run the image's `RUN pip …`, for a Python that has no pip of its own.

    Only what was copied before is there, and wheels must do: a slim image has no compiler.
    """
    app.mkdir()
    shutil.copy(ROOT / "requirements.txt", app)
    (arguments,) = re.findall(r"^RUN pip (.*)", text_of("Dockerfile"), re.MULTILINE)
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", str(python)]
    command = [*pip, *arguments.split(), "--only-binary", ":all:"]
    subprocess.run(command, cwd=app, check=True)


def python_of_the_system() -> str:
    """Return a Python that every user may start, the image's version if it is there.

    One in a home folder is its owner's alone.
    """
    images = docker("FROM").removeprefix("python:").removesuffix("-slim")
    for version in (images, *VERSIONS):
        found = shutil.which(f"python{version}", path="/usr/local/bin:/usr/bin")
        if found:
            return found
    pytest.skip("the system has no Python of a supported version")


def without_rights(command: list[str]) -> list[str]:
    """Return a command that is run as the image's USER, whose group is root's."""
    user = f"--reuid={docker('USER')}"
    return ["setpriv", user, "--clear-groups", "--no-new-privs", "--bounding-set=-all", *command]


@contextmanager
def running_without_rights(app: Path, env: dict[str, str]) -> Iterator[Process]:
    """Run the image's CMD as its USER."""
    process = Process(without_rights(json.loads(docker("CMD"))), env, cwd=app)
    try:
        yield process
    finally:
        process.stop()


@thorough
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs Linux, as root")
def test_the_images_steps_give_an_app_that_serves_without_rights_and_drains(
    clean_root: Path,
) -> None:
    """No container can be built everywhere, so its steps are taken in a folder: COPY, RUN, USER."""
    app, venv = clean_root / "app", clean_root / "venv"
    subprocess.run([python_of_the_system(), "-m", "venv", "--without-pip", venv], check=True)
    install_as_the_image_does(app, venv / "bin" / "python")
    copy_as_the_image_does(app)
    health = without_rights(json.loads(docker("HEALTHCHECK").split("CMD ")[1]))
    given = {name.upper(): value for name, value in REQUIRED.items()}
    with ReservedPort() as reserved:
        env = environment({**given, **docker_environment(), "PORT": str(reserved)})
        env["PATH"] = f"{venv / 'bin'}:/usr/bin:/bin"
        with running_without_rights(app, env) as process:
            process.wait_until_it_serves(reserved.url)
            subprocess.run(health, cwd=app, env=env, check=True)
            process.signal(Signals[docker("STOPSIGNAL")])
            assert process.exit_code(DRAIN) == 0
            assert subprocess.run(health, cwd=app, env=env, check=False).returncode == 1
    assert "Traceback" not in process.output
