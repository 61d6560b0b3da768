"""What a process holds, as the kernel tells it in /proc."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

LISTENING = "0A"
TIME_WAIT = " 06 "  # of no process any more; there may be thousands


class Resources(NamedTuple):
    """What processes hold: threads, open files, and TCP connections in whatever state."""

    threads: int
    files: int
    connections: int


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def threads_of(pids: Iterable[int]) -> int:
    """Count the threads of processes. Raises FileNotFoundError if one ends meanwhile."""
    return sum(len(os.listdir(f"/proc/{pid}/task")) for pid in pids)


def held_by(pids: Iterable[int], apart_from: Collection[int]) -> tuple[Resources, set[int]]:
    """Count what processes hold, but for connections from the ports `apart_from`.

    Return those of them that are open, too. Raises FileNotFoundError or ProcessLookupError if a
    process ends meanwhile.
    """
    pids = list(pids)
    files = 0
    ports: set[int] = set()
    for pid in pids:
        files += len(open_files(pid))
        ports.update(tcp_ports(pid))
    excepted = ports.intersection(apart_from)
    return Resources(threads_of(pids), files - len(excepted), len(ports - excepted)), excepted


def open_files(pid: int) -> list[str]:
    """Name what a process has open, sockets by inode.

    Selectors are left out: werkzeug, which no caller meets in production, leaves the one it looks
    for unread input with to the garbage collector when the socket is closed already.
    """
    names = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            names.append(os.readlink(link))
    return [name for name in names if name != "anon_inode:[eventpoll]"]


def tcp_ports(pid: int) -> list[int]:
    """Return the local ports of a process's TCP connections, IPv4 and IPv6."""
    sockets = {name for name in open_files(pid) if name.startswith("socket:")}
    rows = [row for table in ("tcp", "tcp6") for row in _rows(Path(f"/proc/{pid}/net/{table}"))]
    return [
        int(row[1].split(":")[1], 16)
        for row in rows
        if row[3] != LISTENING and f"socket:[{row[9]}]" in sockets
    ]


def _rows(table: Path) -> list[list[str]]:
    """Read a table of the kernel's, less its heading; none if there is no such protocol."""
    if not table.exists():
        return []
    lines = table.read_text("ascii").splitlines()[1:]
    return [line.split() for line in lines if TIME_WAIT not in line]
