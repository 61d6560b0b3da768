"""What a reader stumbles over and no linter counts. `python -m tools.clarity FILE...`."""

from __future__ import annotations

import ast
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

MOST_ATTRIBUTES = 14  # of a class
MOST_LINES = 25  # of code in a function
MOST_TOKENS = 9.0  # a line of code, on average over a file
NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE),
    *(tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
}
# From Python 3.12 on an f-string is many tokens; here it is one, as it was before.
FSTRING_START = getattr(tokenize, "FSTRING_START", -1)
FSTRING_END = getattr(tokenize, "FSTRING_END", -1)
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
# As a line of their own these do a statement's work: `a or b()`, `b() if a else c()`, `[f(x) …]`
VALUES = (ast.BoolOp, ast.IfExp, ast.Compare, ast.ListComp, ast.SetComp, ast.DictComp)


class Source:
    """One file of Python."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = ast.parse(path.read_bytes())
        self.tokens = self._tokens_by_line()

    def _tokens_by_line(self) -> dict[int, int]:
        """Count the tokens that begin in each line of code: no blanks, comments, docstrings."""
        lines: dict[int, int] = {}
        fstrings = 0  # how deep in them
        with tokenize.open(self.path) as file:
            for token in tokenize.generate_tokens(file.readline):
                if token.type in NO_CODE:
                    continue
                for line in range(token.start[0], token.end[0] + 1):
                    lines.setdefault(line, 0)
                fstrings -= token.type == FSTRING_END
                if not fstrings and token.type != FSTRING_END:
                    lines[token.start[0]] += 1
                fstrings += token.type == FSTRING_START
        for node in ast.walk(self.tree):
            if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
                docstring = node.body[0]
                for line in range(docstring.lineno, (docstring.end_lineno or 0) + 1):
                    lines.pop(line, None)
        return lines

    @property
    def size(self) -> int:
        """The lines of code."""
        return len(self.tokens)

    @property
    def tokens_a_line(self) -> float:
        return sum(self.tokens.values()) / max(self.size, 1)

    def places(self) -> Iterator[str]:
        """Tell each place that is squeezed."""
        if self.tokens_a_line > MOST_TOKENS:
            yield f"{self.path.name}: {self.tokens_a_line:.1f} tokens a line"
        for node in ast.walk(self.tree):
            what = self._fault(node)
            if what:
                yield f"{self.path.name}:{node.lineno}: {what}"  # type: ignore[attr-defined]

    def _fault(self, node: ast.AST) -> str:
        if isinstance(node, ast.Expr) and isinstance(node.value, VALUES):
            return "an expression does a statement's work"
        if isinstance(node, ast.ClassDef) and (held := len(attributes(node))) > MOST_ATTRIBUTES:
            return f"{node.name} has {held} attributes"
        if isinstance(node, FUNCTIONS) and (lines := self._lines(node)) > MOST_LINES:
            return f"{node.name} has {lines} lines of code"
        return ""

    def _lines(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
        return sum(line in self.tokens for line in range(node.lineno, (node.end_lineno or 0) + 1))


def attributes(node: ast.ClassDef) -> set[str]:
    """Name what a class keeps: all that is set on `self`, and the fields of a dataclass."""
    fields = {
        each.target.id
        for each in node.body
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
    }
    return fields | {
        each.attr
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute)
        and isinstance(each.ctx, ast.Store)
        and isinstance(each.value, ast.Name)
        and each.value.id == "self"
    }


def main(names: list[str]) -> int:
    sources = [Source(Path(name)) for name in names]
    for source in sources:
        print(f"{source.size:5} lines, {source.tokens_a_line:4.1f} tokens a line  {source.path}")
    print(f"{sum(source.size for source in sources):5} lines of code")
    places = [place for source in sources for place in source.places()]
    print("\n".join(places))
    return bool(places)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
