"""What is told of a port that can't be had; the kernel's refusals are made up here."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from app import listen


@pytest.mark.parametrize("number", [errno.EACCES, errno.EADDRINUSE])
def test_a_port_that_cannot_be_had_is_told_with_the_reason_and_the_fix(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, "as the kernel says")  # of EACCES, Python makes a PermissionError

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(SystemExit) as told:
        listen(80)
    assert str(told.value).startswith(f"Cannot listen on port 80: {os.strerror(number)}. Set PORT")
