"""Commands that the app tells its owner work when they are typed as they stand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from commands import HERE, app_command, python


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("commands.HERE", tmp_path)
    monkeypatch.setattr("sys.executable", str(tmp_path / ".venv/bin/python3"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_in_the_apps_folder_it_is_short() -> None:
    assert app_command("--setup") == ".venv/bin/python3 app.py --setup"


def test_elsewhere_its_paths_are_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    monkeypatch.setattr("commands.HERE", Path("/srv/voice agent"))
    monkeypatch.setattr("sys.executable", "/usr/bin/python3.13")
    assert app_command() == '/usr/bin/python3.13 "/srv/voice agent/app.py"'


@pytest.mark.parametrize("program", ["", "/usr/sbin/uwsgi"])
def test_a_server_that_embeds_python_does_not_pass_for_it(
    monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr("sys.executable", program)
    assert python() == "python"


@pytest.mark.thorough("it starts a process")
def test_it_can_be_typed_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = app_command("--help")
    assert Path(sys.executable).name in command
    assert str(HERE / "app.py") in command
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--setup" in done.stdout
