"""Commands to be typed by the owner: as they work here, with what this Python has installed."""

import sys
from pathlib import Path

HERE = Path(__file__).parent


def app_command(*arguments: str) -> str:
    """Return the command that runs `app.py` with these arguments."""
    return " ".join([python(), _typed(HERE / "app.py"), *arguments])


def python() -> str:
    """Return the interpreter that runs now; a server that embeds one doesn't tell which it is."""
    running = Path(sys.executable)
    if not running.name.lower().startswith("python"):
        return "python"
    return _typed(running)


def _typed(path: Path) -> str:
    """Return a path as one would type it in the present folder."""
    here = Path.cwd()
    short = str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
    return f'"{short}"' if " " in short else short
