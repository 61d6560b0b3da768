"""Commands to be typed by the owner: as they work here, with what this Python has installed."""

import sys
from pathlib import Path

HERE = Path(__file__).parent


def app_command(*arguments: str) -> str:
    """Return the command that runs `app.py` with these arguments."""
    script = typed(HERE / "app.py")
    words = [python(), script, *arguments]
    return " ".join(words)


def python() -> str:
    """Return the interpreter that runs now; a server that embeds one doesn't tell which it is."""
    running = Path(sys.executable)
    name = running.name.lower()
    if name.startswith("python"):
        return typed(running)
    return "python"


def typed(path: Path) -> str:
    """Return a path as one would type it in the present folder."""
    here = Path.cwd()
    if path.is_relative_to(here):
        path = path.relative_to(here)
    text = str(path)
    if " " in text:
        return f'"{text}"'
    return text
