"""The size rule: the four modules stay within 450 lines of code. `python -m tests.test_size`."""

from __future__ import annotations

import ast
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).parent.parent
MODULES = ("app.py", "voice_handler.py", "workflow_client.py", "utils.py")
LIMIT = 450
NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE),
    *(tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def code_lines(path: Path) -> int:
    """Count the lines that are neither blank nor comment nor docstring."""
    with tokenize.open(path) as file:
        tokens = list(tokenize.generate_tokens(file.readline))
    lines = {
        line
        for token in tokens
        if token.type not in NO_CODE
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            docstring = node.body[0]
            lines -= set(range(docstring.lineno, (docstring.end_lineno or 0) + 1))
    return len(lines)


def sizes() -> dict[str, int]:
    return {name: code_lines(ROOT / name) for name in MODULES}


def test_the_four_modules_are_small() -> None:
    assert sum(sizes().values()) <= LIMIT, sizes()


def test_only_code_is_counted(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        '"""A docstring\n\nof three lines."""\n\n# a comment\n'
        "def f():\n    '''One more.'''\n    x = '''text\n\n    '''  # a comment\n    return x\n"
    )
    assert code_lines(module) == 5


def main() -> int:
    for name, lines in sizes().items():
        print(f"{lines:5} {name}")
    total = sum(sizes().values())
    print(f"{total:5} lines of code, of {LIMIT} at most")
    return 1 if total > LIMIT else 0


if __name__ == "__main__":
    sys.exit(main())
