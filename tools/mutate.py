"""Break each rule on purpose, one at a time, and tell which tests see it.

    python -m tools.mutate [--rules] [WORD...]

Tries the mutants whose names have one of the words, or all. Each is made in a scratch copy, never
in the checkout. `--rules` leaves out the random calls unless the tests of the rules see nothing;
`EXAMPLES` is the number of random calls. The exit status is 1 if a mutant was missed, or if
`mutants.txt` doesn't fit the code any more.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
MUTANTS = Path(__file__).with_name("mutants.txt")
RULES = "tests/unit/test_conversation.py"
# Rules that aren't a conversation's have tests of their own
TESTS = {
    "grammar.py": "tests/unit/test_sentences.py",
    "markup.py": "tests/unit/test_sentences.py",
    "text.py": "tests/unit/test_sentences.py",
    "words.py": "tests/unit/test_heard.py",
    "logs.py": "tests/unit/test_logs.py",
    "upstream.py": "tests/unit/test_upstream.py",
    "realtime.py": "tests/unit/test_realtime.py",
    "signature.py": "tests/unit/test_webhook.py",
    "places.py": "tests/unit/test_places.py",
    "opening.py": "tests/unit/test_opening.py",
    "app.py": "tests/unit/test_webhook.py",
    "twilio_calls.py": "tests/unit/test_twilio_calls.py",
    "voice_handler.py": "tests/unit/test_begin.py",
}
FOR_THE_WEBHOOK = ("tools", "templates")  # what its tests need beside the code
RANDOM_CALLS = "tests/unit/test_conversation_machine.py"
HELPERS = (
    "tests/unit/environment.py",
    "tests/unit/forks.py",
    "tests/unit/noting_port.py",
    "tests/unit/random_call.py",
)
SECONDS = 300  # a mutant that takes longer hangs


@dataclass(frozen=True)
class Mutant:
    """A rule that is broken: `old` becomes `new` in a file."""

    file: str
    name: str
    old: str
    new: str

    def apply(self, copy: Path) -> bool:
        """Break the rule in a copy; tell whether there is one place for it."""
        file = copy / self.file
        source = file.read_text(encoding="utf-8")
        file.write_text(source.replace(self.old, self.new), encoding="utf-8")
        return source.count(self.old) == 1


@dataclass(frozen=True)
class Verdict:
    """What the tests of the rules, and the random calls, say of a mutant."""

    name: str
    rules: str
    calls: str

    @property
    def caught(self) -> bool:
        """Whether any test sees it."""
        return "caught" in (self.rules, self.calls)

    def __str__(self) -> str:
        """Return one line of the report."""
        return f"{self.name:64} rules: {self.rules:7} random calls: {self.calls}"


def mutants(text: str) -> Iterator[Mutant]:
    """Read `mutants.txt`: after each file's name its mutants, each a name and a hunk of a diff."""
    file = ""
    for block in re.split(r"\n\n+", text.strip()):
        if block.startswith("=== "):
            file = block.removeprefix("=== ")
            continue
        name, *hunk = block.split("\n")
        old = [line[1:] for line in hunk if line[0] in " -"]
        new = [line[1:] for line in hunk if line[0] in " +"]
        yield Mutant(file, name, in_lines(old), in_lines(new))


def in_lines(lines: list[str]) -> str:
    """Join lines as they stand in a file, from the end of the one before."""
    return "\n" + "".join(line + "\n" for line in lines)


def judge(mutant: Mutant, always_call: bool) -> Verdict:
    """Run the tests on a scratch copy with the rule broken."""
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        make_copy(copy)
        if not mutant.apply(copy):
            return Verdict(mutant.name, "stale", "stale")
        own = TESTS.get(mutant.file)
        rules = run(copy, own or RULES)
        if not own and (rules == "missed" or always_call):
            return Verdict(mutant.name, rules, run(copy, RANDOM_CALLS))
        return Verdict(mutant.name, rules, "not run")


def make_copy(copy: Path) -> None:
    """Copy the code and its tests."""
    (copy / RULES).parent.mkdir(parents=True)
    for file in (*ROOT.glob("*.py"), *ROOT.glob("*.json"), ROOT / ".env.example"):
        shutil.copy(file, copy)
    for folder in FOR_THE_WEBHOOK:
        shutil.copytree(ROOT / folder, copy / folder)
    for test in (RULES, RANDOM_CALLS, *HELPERS, *set(TESTS.values())):
        shutil.copy(ROOT / test, copy / test)


def run(copy: Path, test: str) -> str:
    """Run a test in a copy; tell whether it sees that something is broken."""
    options = ["-q", "-x", "-c", os.devnull, "--rootdir", ".", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, test]
    environment = {"EXAMPLES": "10", **os.environ, "QUICK": "1", "PYTHONPATH": str(copy)}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # they take longer than the tests
    environment["CI"] = "true"  # has Hypothesis make the same calls each time
    try:
        status = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, timeout=SECONDS, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        return "caught"
    return {0: "missed", 1: "caught"}.get(status, f"error {status}")


def main(arguments: list[str]) -> int:
    """Judge the mutants that are asked for; return the exit status."""
    words = [word for word in arguments if word != "--rules"]
    always_call = words == arguments
    chosen = [
        mutant
        for mutant in mutants(MUTANTS.read_text(encoding="utf-8"))
        if not words or any(word in mutant.name for word in words)
    ]
    missed = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for verdict in pool.map(lambda mutant: judge(mutant, always_call), chosen):
            print(verdict, flush=True)
            if not verdict.caught:
                missed.append(verdict.name)
    for name in missed:
        print(f"MISSED: {name}")
    print(f"{len(chosen) - len(missed)} of {len(chosen)} mutants caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
