"""Type to the workflow instead of calling it: `make chat`, or `python -m tools.chat`.

It is the workflow of a call, with the settings in `.env`: the same notes go to it, and its reply is
cut into the same sentences, a line each. Of the settings, Twilio's may still be missing.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from settings import HERE, Settings, read_settings
from settings_env import filled, read_env_file
from settings_values import is_placeholder
from speech import ACTIONS
from utils import sentences
from workflow_client import FAILURES, WorkflowClient

CALLER = "anonymous"
# What a call needs and a chat doesn't
STAND_INS = {
    "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
    "TWILIO_AUTH_TOKEN": "0" * 32,
    "TWILIO_PHONE_NUMBER": "+15550001111",
    "WEBHOOK_URL": "https://voice.example.com",
}
BEFORE = """\
You write to the real workflow, {} at {}:
it costs what it costs in a call, and keeps what you write. Each line of a reply would be spoken as
one. #4711 stands for keys pressed; Ctrl-D ends the chat.
"""
AFTER = "The call would end here, or be put through."


def chat_settings() -> Settings:
    """Return the settings, with stand-ins for what of Twilio's is missing. Raises SettingsError."""
    environment = dict(os.environ)
    known = read_env_file(HERE / ".env").values | filled(os.environ)
    for name, stand_in in STAND_INS.items():
        if name not in known or is_placeholder(known[name]):
            environment[name] = stand_in
    return read_settings(HERE, environment)


class Chat:
    """A conversation with the workflow, as the line leads it."""

    def __init__(self, settings: Settings, workflow: WorkflowClient) -> None:
        self._settings = settings
        self._workflow = workflow
        self._call_sid = f"CA{uuid.uuid4().hex}"

    def run(self, typed: Iterable[str], show: Callable[[str], None]) -> None:
        """Answer each line until there is no other, or the workflow ends the call."""
        called = self._settings.twilio_phone_number
        self._workflow.resume(self._call_sid, "", CALLER, called)
        show(self._settings.greeting)
        for words in filter(str.strip, typed):
            for sentence in self._reply(words.strip()):
                show(sentence)
                if sentence in ACTIONS:
                    show(AFTER)
                    return

    def _reply(self, words: str) -> Iterator[str]:
        reply = self._workflow.send_message(self._call_sid, self._message(words))
        sentence = ""
        try:
            for sentence in sentences(reply, self._settings.language):
                yield sentence
        except FAILURES as error:
            yield f"{self._settings.apology} (no reply: {error})"
        else:
            if not sentence:
                yield f"{self._settings.apology} (no reply: the reply has no words)"

    def _message(self, words: str) -> str:
        if re.fullmatch(r"#[\d*]+", words):
            return self._settings.notes.keys.replace("{}", words[1:])
        return words


def typed_lines() -> Iterator[str]:
    """Yield what is typed, until Ctrl-D."""
    with suppress(EOFError):
        while True:
            yield input("> ")


def main() -> None:
    """Chat in this terminal."""
    settings = chat_settings()
    print(BEFORE.format(settings.agent_workflow_id, settings.workflow_url))
    for warning in settings.warnings():
        print(warning)
    with suppress(KeyboardInterrupt):
        Chat(settings, WorkflowClient(settings)).run(typed_lines(), print)
    print()


if __name__ == "__main__":
    main()
