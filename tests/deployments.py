"""What the files that deploy the app say: settings, ports, and how long a stop may take."""

from __future__ import annotations

import ast
import json
import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

from tools.harness import ROOT

Given = dict[str, str | None]  # settings; None: asked for, or kept as a secret elsewhere

DEPLOY = ROOT / "deploy"
UNIT = "deploy/voice-agent@.service"
FROM_LITERAL = re.compile(r"(?:--from-literal=|secrets set | )([A-Z_]+)=…")


def text_of(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def yaml_of(name: str) -> Any:
    return yaml.safe_load(text_of(name))


def kubernetes() -> dict[str, Any]:
    """Return Kubernetes' objects by their kinds."""
    return {each["kind"]: each for each in yaml.safe_load_all(text_of("deploy/kubernetes.yaml"))}


def compose(service: str) -> dict[str, Any]:
    return dict(yaml_of("compose.yaml")["services"][service])


def render() -> dict[str, Any]:
    (service,) = yaml_of("render.yaml")["services"]
    return dict(service)


def heroku() -> dict[str, Any]:
    return dict(json.loads(text_of("app.json")))


def pod() -> dict[str, Any]:
    return dict(kubernetes()["Deployment"]["spec"]["template"]["spec"])


def container() -> dict[str, Any]:
    (only,) = pod()["containers"]
    return dict(only)


def fly(name: str) -> str:
    """Return a value of fly.toml: a text, or a number's digits. Python 3.10 can't read TOML."""
    found = re.search(rf'^{name} = "?([^"#\n]*?)"? *(?:#.*)?$', text_of("deploy/fly.toml"), re.M)
    assert found, name
    return found[1]


def docker_steps() -> list[str]:
    """Return the names of the Dockerfile's instructions, in their order."""
    whole = text_of("Dockerfile").replace("\\\n", "")
    return re.findall(r"^([A-Z]+) ", whole, re.MULTILINE)


def docker(instruction: str) -> str:
    """Return the last such instruction of the Dockerfile, in one line."""
    whole = text_of("Dockerfile").replace("\\\n", "")
    *_, last = re.findall(rf"^{instruction} +(.*)$", whole, re.MULTILINE)
    return str(last)


def systemd(name: str) -> str:
    """Return a value of the unit; "" if it doesn't say."""
    found = re.search(rf"^{name}=(.*)$", text_of(UNIT), re.MULTILINE)
    return found[1] if found else ""


def docker_environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in docker("ENV").split())


def gunicorn(name: str) -> int:
    """Return a number that gunicorn is told."""
    tree = ast.parse(text_of("gunicorn.conf.py"))
    values = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name
    ]
    return int(ast.literal_eval(values[0]))


def lets_into_the_image(path: Path) -> bool:
    """Tell whether .dockerignore lets a file pass: of the rules that match, the last one counts."""
    name = path.relative_to(ROOT).parts[0]  # the rules are about what lies at the top
    passes = True
    for line in text_of(".dockerignore").splitlines():
        rule = line.removeprefix("!")
        if rule and not rule.startswith("#") and fnmatch(name, rule):
            passes = line.startswith("!")
    return passes


# ---------------------------------------------------------------- by platform


def in_compose() -> Given:
    service = compose("one")
    assert service["env_file"] == ".env"
    return dict(service["environment"])


def in_kubernetes() -> Given:
    secret = FROM_LITERAL.findall(text_of("deploy/kubernetes.yaml"))
    return {**kubernetes()["ConfigMap"]["data"], **dict.fromkeys(secret)}


def on_fly() -> Given:
    text = text_of("deploy/fly.toml")
    secret = FROM_LITERAL.findall(text)
    (section,) = re.findall(r"^\[env\]\n(.*?)\n\n", text, re.MULTILINE | re.DOTALL)
    return {**dict(re.findall(r'(\w+) = "(.*)"', section)), **dict.fromkeys(secret)}


def on_render() -> Given:
    return {each["key"]: each.get("value") for each in render()["envVars"]}


def on_heroku() -> Given:
    return {name: setting.get("value") for name, setting in heroku()["env"].items()}


def under_systemd() -> Given:
    name, _, value = systemd("Environment").partition("=")
    return {name: value}


GIVEN = {
    "compose": in_compose,
    "Kubernetes": in_kubernetes,
    "Fly": on_fly,
    "Render": on_render,
    "Heroku": on_heroku,
    "systemd": under_systemd,
}
