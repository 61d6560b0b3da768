"""The code stays readable: what no linter counts. Lines are not counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.clarity import Source

ROOT = Path(__file__).parent.parent
MODULES = sorted(ROOT.glob("*.py"))
# The settings are one list, which is scanned, not read.
EXCUSED = {"Settings"}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_no_module_is_squeezed(module: Path) -> None:
    places = [
        place
        for place in Source(module).places()
        if not any(f" {name} has" in place for name in EXCUSED)
    ]
    assert places == []


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("def f(a):\n    a or print()\n", "an expression does a statement's work"),
        ("def f(a):\n    a() if a else 0\n", "an expression does a statement's work"),
        ("[print(x) for x in ()]\n", "an expression does a statement's work"),
        ("def f():\n" + "    x = 1\n" * 25, "f has 26 lines of code"),
        (
            "class C:\n    def f(self):\n" + "".join(f"        self.a{n} = 1\n" for n in range(15)),
            "C has 15 attributes",
        ),
        ("class C:\n" + "".join(f"    a{n}: int\n" for n in range(15)), "C has 15 attributes"),
        ("x = [a(b(1), 2), c]\n", "15.0 tokens a line"),
    ],
)
def test_what_is_squeezed_is_told(tmp_path: Path, code: str, fault: str) -> None:
    module = tmp_path / "module.py"
    module.write_text(code)
    assert any(place.endswith(fault) for place in Source(module).places())


def test_only_code_is_counted(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        '"""A docstring\n\nof three lines."""\n\n# a comment\n'
        "def f():\n    '''One more.'''\n    x = '''text\n\n    '''  # a comment\n    return x\n"
    )
    assert Source(module).size == 5
