"""The other Pythons on this machine that the app supports: `python -m tools.pythons [VERSION]`.

Prints their versions, or where the interpreter of one is. A command may be on the PATH and start
nothing: pyenv has shims of versions that are switched off. Behind a shim its own folder is looked
at.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

VERSIONS = ("3.10", "3.11", "3.12", "3.13")
PROBE = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"


def candidates(version: str) -> Iterator[str]:
    """Yield commands that may be a Python of this version."""
    command = shutil.which(f"python{version}")
    if command:
        yield command
        pyenv = Path(command).parent.parent / "versions"
        yield from map(str, sorted(pyenv.glob(f"{version}.*/bin/python")))


def find(version: str) -> str:
    """Return a command that is a Python of this version and can make an environment, or ""."""
    for command in candidates(version):
        probe = subprocess.run([command, "-c", PROBE], capture_output=True, text=True, check=False)
        if probe.returncode == 0 and probe.stdout.strip() == version:
            return command
    return ""


def main(wanted: list[str]) -> None:
    if wanted:
        print(find(wanted[0]))
        return
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    print(*(version for version in VERSIONS if version != own and find(version)))


if __name__ == "__main__":
    main(sys.argv[1:])
