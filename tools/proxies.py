"""Real proxies before two processes of the app, as the files in deploy/ tell users to start them.

Only what a test machine has no use for is changed: where they listen, without certificates, and
where the processes are.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from tools.app_process import ROOT, eventually
from tools.ports import ReservedPort

Ports = tuple[int, int]

DEPLOY = ROOT / "deploy"
FIRST, SECOND = 5000, 5001  # where the files expect the processes
NGINX = """
daemon off; pid {folder}/pid; error_log stderr;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/bodies; proxy_temp_path {folder}/answers;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    include {folder}/voice-agent.conf;
}}
"""


class Plan(NamedTuple):
    """How to start a proxy: a command, and what to set for it."""

    command: list[str]
    variables: Mapping[str, str]


def _moved(text: str, machines: Ports) -> str:
    """Return a proxy's file with the ports that the processes have here."""
    first, second = (f"127.0.0.1:{port}" for port in machines)
    moved = text.replace(f"127.0.0.1:{FIRST}", first)
    return moved.replace(f"127.0.0.1:{SECOND}", second)


def haproxy(folder: Path, port: int, machines: Ports) -> Plan:
    text = (DEPLOY / "haproxy.cfg").read_text("utf-8")
    plain = re.sub(r"bind :443 ssl .*", f"bind 127.0.0.1:{port}", text)
    statistics = f"global\n    stats socket {folder}/statistics\n"
    file = folder / "haproxy.cfg"
    file.write_text(statistics + _moved(plain, machines), "utf-8")
    return Plan(["haproxy", "-db", "-f", str(file)], {})


def nginx(folder: Path, port: int, machines: Ports) -> Plan:
    text = (DEPLOY / "nginx.conf").read_text("utf-8")
    without_keys = re.sub(r"ssl_certificate.*;", "", text)
    plain = without_keys.replace("listen 443 ssl;", f"listen 127.0.0.1:{port};")
    (folder / "voice-agent.conf").write_text(_moved(plain, machines), "utf-8")
    file = folder / "nginx.conf"
    file.write_text(NGINX.format(folder=folder), "utf-8")
    return Plan(["nginx", "-c", str(file), "-e", "stderr"], {})


def caddy(folder: Path, port: int, machines: Ports) -> Plan:
    file = folder / "Caddyfile"
    file.write_text(f"{{\n\tadmin off\n}}\nimport {DEPLOY}/Caddyfile\n", "utf-8")
    first, second = machines
    variables = {
        "WEBHOOK_URL": f"http://:{port}",
        "UPSTREAMS": f"127.0.0.1:{first} 127.0.0.1:{second}",
        "HOME": str(folder),
    }
    return Plan(["caddy", "run", "--adapter", "caddyfile", "--config", str(file)], variables)


PROXIES: dict[str, Callable[[Path, int, Ports], Plan]] = {
    "haproxy": haproxy,
    "nginx": nginx,
    "caddy": caddy,
}


def program(name: str) -> str | None:
    """Return where a proxy is installed; Debian keeps some from the PATH of ordinary users."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")


class Proxy:
    """One of `PROXIES` on a port of its own, before processes on two ports, running or not."""

    def __init__(self, name: str, folder: Path, machines: Ports) -> None:
        self._reserved = ReservedPort()
        self._folder = folder
        self._machines = machines
        self.url = self._reserved.url
        plan = PROXIES[name](folder, self._reserved.number, machines)
        self._output = folder / "output"
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                plan.command,
                executable=program(name),
                env={**os.environ, **plan.variables},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        eventually(self._listens, f"answer of {name}")

    def _listens(self) -> bool:
        assert self._process.poll() is None, self._output.read_text("utf-8")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._reserved.number)) == 0

    def wait_until_it_sends_to(self, machine: int) -> None:
        """Wait until it takes a process for healthy, if it keeps a list of those that are."""
        if (self._folder / "statistics").exists():
            name = ("one", "two")[self._machines.index(machine)]
            eventually(lambda: f"voice_agent,{name},UP" in self._states(), "health", 30)

    def _states(self) -> str:
        """Return HAProxy's list: backend, server and state in each line."""
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(self._folder / "statistics"))
            asking.sendall(b"show stat\n")
            rows = asking.makefile().read().splitlines()
        cells = [row.split(",") for row in rows if row]
        return "\n".join(f"{row[0]},{row[1]},{row[17]}" for row in cells)

    def stop(self) -> None:
        """Cut every connection."""
        self._process.terminate()
        self._process.wait(10)
        self._reserved.release()
