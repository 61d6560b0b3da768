"""The mouth of a Realtime session: which responses run, and what each of them says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tools.simulator import openai_rules as rules
from tools.simulator.openai_rules import Blameless, Refusal
from tools.simulator.openai_voice import RealtimeResponse
from tools.simulator.openai_wire import Json

if TYPE_CHECKING:
    from tools.simulator.openai_realtime import RealtimeSession

IMPROVISED = "(improvised)"


class SessionMouth:
    """The responses of one session. Runs on the simulator's loop."""

    def __init__(self, session: RealtimeSession) -> None:
        self.responses: list[RealtimeResponse] = []
        self._session = session

    @property
    def _voice(self) -> Any:
        return self._session.config["audio"]["output"]["voice"]

    def check_voice(self, wanted: Any, path: str) -> None:
        """Refuse another voice once something was said."""
        has_spoken = any(response.audio_ms for response in self.responses)
        if wanted != self._voice and has_spoken:
            raise Refusal(
                "Cannot update a conversation's voice if assistant audio is present.",
                code="cannot_update_voice",
                param=f"{path}.audio.output.voice",
            )

    def active_response(self) -> RealtimeResponse | None:
        """Find the response that is writing to the default conversation."""
        return next((r for r in self.responses if r.in_default and not r.over), None)

    def audio_ms_of(self, item_id: str) -> int:
        """Return how much sound an item has."""
        return next((r.audio_ms for r in self.responses if r.item_id == item_id), 0)

    def respond_by_itself(self) -> None:
        """Improvise, as the model does unless it is told not to."""
        if not self.active_response():
            self.start({}, IMPROVISED)

    def start(self, parameters: Json, text: str) -> None:
        """Begin to say a text."""
        response = RealtimeResponse(self._session, parameters, text)
        self.responses.append(response)
        self._session.spawn(response.run())

    def on_create(self, event: Json) -> None:
        parameters = event.get("response", {})
        rules.check_response(parameters)
        self._session.items.check_references(parameters.get("input") or [])
        knobs = self._session.behaviour
        if knobs.take("reject_responses"):
            raise rules.server_error()
        if knobs.take("ignore_responses"):
            return
        self._check_conversation(parameters)
        asked = (parameters.get("audio") or {}).get("output") or {}
        self.check_voice(asked.get("voice", self._voice), "response")
        self.start(parameters, self._words_for(parameters))

    def _check_conversation(self, parameters: Json) -> None:
        active = self.active_response()
        if active and parameters.get("conversation", "auto") == "auto":
            raise Refusal(
                f"Conversation already has an active response in progress: {active.id}. Wait until"
                " the response is finished before creating a new one.",
                code="conversation_already_has_active_response",
            )

    def _words_for(self, parameters: Json) -> str:
        """Read the last text of the input aloud if told what to do; anything else is improvised."""
        texts = [
            part["text"]
            for item in parameters.get("input") or []
            for part in item.get("content", [])
            if part.get("type") == "input_text"
        ]
        instructions = parameters.get("instructions") or self._session.config["instructions"]
        if not texts or not instructions:
            return IMPROVISED
        drift = self._session.behaviour.drift
        return drift(texts[-1]) if drift else str(texts[-1])

    def on_cancel(self, event: Json) -> None:
        asked = event.get("response_id")
        meant = [r for r in self.responses if (r.id == asked if asked else r.in_default)]
        target = next((response for response in meant if not response.over), None)
        if target is None:
            # One that has just ended is a race; one that never was is a mistake, and so is a cancel
            # without an id when only out-of-band responses exist.
            which = f" with id {asked}" if asked else ""
            raise (Blameless if meant else Refusal)(
                f"Cancellation failed: no active response found{which}.",
                code="response_cancel_not_active",
                param="response_id" if asked else None,
            )
        target.cancel("client_cancelled")
