"""A port of a conversation that does nothing, and takes notes."""

from collections.abc import Callable

from conversation import Port


class NotingPort(Port):
    """Notes what the rules decide, in order."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, ...]] = []
        self.on_say: Callable[[str, str], None] = lambda mark, text: None
        self.on_stop: Callable[[str], None] = lambda mark: None

    def say(self, mark: str, text: str) -> None:
        self.noted.append(("say", mark, text))
        self.on_say(mark, text)

    def stop(self, mark: str) -> None:
        self.noted.append(("stop", mark))
        self.on_stop(mark)

    def mark(self, mark: str) -> None:
        self.noted.append(("mark", mark))

    def clear(self) -> None:
        self.noted.append(("clear",))

    def ask(self, turn: int, message: str) -> None:
        self.noted.append(("ask", str(turn), message))

    def hang_up(self) -> None:
        self.noted.append(("hang_up",))

    def transfer(self) -> None:
        self.noted.append(("transfer",))

    def close(self, reason: str) -> None:
        self.noted.append(("close", reason))

    def hold(self, reason: str) -> None:
        self.noted.append(("hold", reason))

    def give_up(self, reason: str) -> None:
        self.noted.append(("give_up", reason))
