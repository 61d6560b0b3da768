"""What OpenAI refuses: the SDK's types as a strict grammar, and the rules its types do not state.

The SDK ships a TypedDict for everything a client may send. `check` walks a JSON value along such a
type and, unlike pydantic, converts nothing and lets no unknown field pass; the first fault found is
raised as a `Refusal` that names it as OpenAI does: `session.audio.input.foo`, `input[0].content`.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from openai._utils import PropertyInfo
from openai.types import realtime
from typing_extensions import Required, get_type_hints, is_typeddict

# "Can be set to null" in their documentation, though the TypedDicts do not say it.
DOCUMENTED_AS_NULLABLE = {"noise_reduction", "transcription", "tracing"}

VOICES = ["alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar"]

REALTIME_MODELS = {
    "gpt-realtime-2.1",
    "gpt-realtime-2.1-mini",
    "gpt-realtime-2",
    "gpt-realtime-1.5",
    "gpt-realtime",
    "gpt-realtime-2025-08-28",
    "gpt-realtime-mini",
    "gpt-realtime-mini-2025-10-06",
    "gpt-realtime-mini-2025-12-15",
}
REASONING_MODELS = {"gpt-realtime-2.1", "gpt-realtime-2.1-mini", "gpt-realtime-2"}
TRANSCRIPTION_MODELS = {
    "gpt-transcribe",
    "gpt-live-transcribe",
    "gpt-realtime-whisper",
    "whisper-1",
    "gpt-4o-transcribe",
    "gpt-4o-transcribe-diarize",
    "gpt-4o-mini-transcribe",
    "gpt-4o-mini-transcribe-2025-12-15",
}
WITHOUT_TURN_DETECTION = {"gpt-live-transcribe", "gpt-realtime-whisper"}
WITH_LANGUAGES = {"gpt-transcribe", "gpt-live-transcribe"}
"""Models that take `languages` and `keywords`, and ignore the singular `language` silently."""
ISO_639_1 = """
    aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy
    da de dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu
    hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb
    lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om
    or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw
    ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""
LANGUAGES = frozenset(ISO_639_1.split())
CURRENT_TEXT_MODELS = ("gpt-6-luna", "gpt-6.1-sol", "gpt-6.1-terra", "gpt-6.2-sol", "gpt-6.2-astra")
TEXT_MODELS = (*CURRENT_TEXT_MODELS, "gpt-5", "gpt-4.1", "gpt-4o", "o3")

# Fields that exist only in the shape of the beta that was switched off on 2026-05-12.
BETA_FIELDS = {
    "modalities",
    "input_audio_format",
    "output_audio_format",
    "input_audio_transcription",
    "input_audio_noise_reduction",
    "max_response_output_tokens",
}

CLIENT_EVENTS: dict[str, Any] = {
    "session.update": realtime.SessionUpdateEventParam,
    "input_audio_buffer.append": realtime.InputAudioBufferAppendEventParam,
    "input_audio_buffer.commit": realtime.InputAudioBufferCommitEventParam,
    "input_audio_buffer.clear": realtime.InputAudioBufferClearEventParam,
    "output_audio_buffer.clear": realtime.OutputAudioBufferClearEventParam,
    "conversation.item.create": realtime.ConversationItemCreateEventParam,
    "conversation.item.delete": realtime.ConversationItemDeleteEventParam,
    "conversation.item.retrieve": realtime.ConversationItemRetrieveEventParam,
    "conversation.item.truncate": realtime.ConversationItemTruncateEventParam,
    "response.create": realtime.ResponseCreateEventWithReferencesParam,
    "response.cancel": realtime.ResponseCancelEventParam,
}


class Refusal(Exception):
    """Turn a request or event down, in the words of OpenAI's error object."""

    def __init__(
        self,
        message: str,
        *,
        code: str | None,
        param: str | None = None,
        status: int = 400,
        kind: str = "invalid_request_error",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param
        self.status = status
        self.kind = kind
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        return {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }


class Blameless(Refusal):
    """An error that is not the client's fault: asked for by a test, or an unavoidable race."""


def server_error() -> Refusal:
    message = "The server had an error while processing your request. Sorry about that!"
    return Blameless(message, code="server_error", kind="server_error")


def unknown(param: str) -> Refusal:
    return Refusal(f"Unknown parameter: '{param}'.", code="unknown_parameter", param=param)


def missing(param: str) -> Refusal:
    return Refusal(
        f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param
    )


def invalid(param: str, message: str) -> Refusal:
    return Refusal(f"Invalid value for '{param}': {message}", code="invalid_value", param=param)


def _wrong_type(value: object, expected: str, path: str) -> Refusal:
    got = {type(None): "null", dict: "an object", list: "an array"}.get(
        type(value), f"a {type(value).__name__}"
    )
    return Refusal(
        f"Invalid type for '{path}': expected {expected}, but got {got} instead.",
        code="invalid_type",
        param=path,
    )


# ---------------------------------------------------------------- the grammar


class _Field(NamedTuple):
    shape: Any
    required: bool


@cache
def fields_of(shape: Any) -> dict[str, _Field]:
    """Read a TypedDict's keys as on the wire, each with its type and whether it is required."""
    found = {}
    for attribute, annotation in get_type_hints(shape, include_extras=True).items():
        name, hint, required = attribute, annotation, False
        while get_origin(hint) in (Required, Annotated):
            if get_origin(hint) is Required:
                required = True
            else:
                aliases = [m.alias for m in hint.__metadata__ if isinstance(m, PropertyInfo)]
                name = next((alias for alias in aliases if alias), name)
            hint = get_args(hint)[0]
        if name in DOCUMENTED_AS_NULLABLE:
            hint = Union[hint, None]  # noqa: UP007  (`|` does not take every typing construct)
        found[name] = _Field(hint, required)
    return found


def check(value: object, shape: Any, path: str = "") -> None:
    """Raise a Refusal naming the field unless `value` has exactly the shape of the SDK type."""
    while get_origin(shape) in (Required, Annotated):
        shape = get_args(shape)[0]
    if is_typeddict(shape):
        return _check_fields(value, shape, path)
    checker = _CHECKERS.get(get_origin(shape) or shape)
    if (
        checker is not None
    ):  # what the grammar has no rule for (`object`, forward names) may be anything
        checker(value, shape, path)
    return None


def _check_fields(value: object, shape: Any, path: str) -> None:
    if not isinstance(value, dict):
        raise _wrong_type(value, "an object", path)
    fields = fields_of(shape)
    for name in value:
        if name not in fields:
            raise unknown(_join(path, name))
    for name, field in fields.items():
        if name in value:
            check(value[name], field.shape, _join(path, name))
        elif field.required:
            raise missing(_join(path, name))


def _check_union(value: object, shape: Any, path: str) -> None:
    options = [option for option in get_args(shape) if _plausible(value, option)]
    if not options:
        _refuse_union(value, shape, path)
    faults = []
    for option in options:
        try:
            return check(value, option, path)
        except Refusal as fault:
            faults.append(fault)
    raise max(faults, key=lambda fault: (fault.param or "").count(".") - path.count("."))


def _refuse_union(value: object, shape: Any, path: str) -> None:
    if isinstance(value, dict) and any(map(is_typeddict, get_args(shape))):
        kind = _join(path, "type")
        raise (
            invalid(kind, f"{value['type']!r} is not supported here.")
            if "type" in value
            else (missing(kind))
        )
    literals = _literals(shape)
    if literals and isinstance(value, str):
        raise invalid(path, f"{value!r}. Supported values are: {sorted(map(str, literals))}.")
    raise _wrong_type(value, "another kind of value", path)


def _plausible(value: object, option: Any) -> bool:
    """Tell objects of a union apart by their literals, everything else by its JSON type."""
    if is_typeddict(option):
        return isinstance(value, dict) and all(
            value[name] in literals
            for name, field in fields_of(option).items()
            if isinstance(value.get(name), str) and (literals := _literals(field.shape))
        )
    if isinstance(value, list):
        return get_origin(option) in _ARRAYS
    if isinstance(value, dict):
        return get_origin(option) is dict
    try:
        check(value, option)
    except Refusal:
        return False
    return True


def _literals(shape: Any) -> set[object]:
    """Collect the values of a (nullable) Literal; none if other strings are allowed as well."""
    if get_origin(shape) is Literal:
        return set(get_args(shape))
    if get_origin(shape) in _UNIONS:
        options = [_literals(option) for option in get_args(shape) if option is not types.NoneType]
        return set().union(*options) if all(options) else set()
    return set()


def _check_literal(value: object, shape: Any, path: str) -> None:
    if value not in get_args(shape):
        supported = ", ".join(repr(option) for option in get_args(shape))
        raise invalid(path, f"{value!r}. Supported values are: {supported}.")


def _check_array(value: object, shape: Any, path: str) -> None:
    if not isinstance(value, list):
        raise _wrong_type(value, "an array", path)
    (element,) = get_args(shape)
    for index, entry in enumerate(value):
        check(entry, element, f"{path}[{index}]")


def _check_mapping(value: object, shape: Any, path: str) -> None:
    if not isinstance(value, dict):
        raise _wrong_type(value, "an object", path)
    _, element = get_args(shape)
    for name, entry in value.items():
        check(entry, element, _join(path, name))


def _scalar(kinds: type | tuple[type, ...], expected: str) -> Callable[[object, Any, str], None]:
    def checker(value: object, shape: Any, path: str) -> None:
        if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
            raise _wrong_type(value, expected, path)

    return checker


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


_ARRAYS = {list, Iterable, Sequence}
_UNIONS = {Union, types.UnionType}
_CHECKERS: dict[Any, Callable[[object, Any, str], None]] = {
    Literal: _check_literal,
    dict: _check_mapping,
    str: _scalar(str, "a string"),
    int: _scalar(int, "an integer"),
    float: _scalar((int, float), "a number"),
    bool: _scalar(bool, "a boolean"),
    types.NoneType: _scalar(types.NoneType, "null"),
    **dict.fromkeys(_ARRAYS, _check_array),
    **dict.fromkeys(_UNIONS, _check_union),
}


# ---------------------------------------------------------------- rules the types do not state


def check_metadata(metadata: Mapping[str, str] | None, path: str = "metadata") -> None:
    """Refuse more than 16 pairs, keys over 64 and values over 512 characters."""
    metadata = metadata or {}
    if len(metadata) > 16:
        raise _too_big("object", path, f"{len(metadata)} properties, maximum 16")
    for key, value in metadata.items():
        if len(key) > 64:
            raise _too_big("string", path, f"key of {len(key)} characters, maximum 64")
        if len(value) > 512:
            raise _too_big("string", f"{path}.{key}", f"{len(value)} characters, maximum 512")


def _too_big(what: str, param: str, why: str) -> Refusal:
    code = {"object": "object_above_max_properties", "string": "string_above_max_length"}[what]
    return Refusal(f"Invalid '{param}': {what} too long ({why}).", code=code, param=param)


def check_text_model(model: str) -> None:
    """Refuse models that are no longer, or not yet, served."""
    if not model.startswith(TEXT_MODELS):
        raise Refusal(
            f"The requested model '{model}' does not exist.", code="model_not_found", param="model"
        )


def beta_shaped(event: Mapping[str, Any]) -> bool:
    """Recognise client events in the shape of the withdrawn Realtime beta."""
    return any(
        isinstance(part, dict) and not BETA_FIELDS.isdisjoint(part)
        for part in (event.get("session"), event.get("response"))
    )


def check_client_event(event: object) -> str:
    """Refuse an event whose type, fields or values Realtime does not know; return its type."""
    if not isinstance(event, dict):
        raise Refusal("Events must be JSON objects.", code="invalid_event")
    kind = event.get("type")
    if kind is None:
        raise missing("type")
    if not isinstance(kind, str) or kind not in CLIENT_EVENTS:
        raise invalid("type", f"{kind!r}. Supported values are: {', '.join(CLIENT_EVENTS)}.")
    if kind == "session.update":
        _check_session_type(event.get("session"))
    check(event, CLIENT_EVENTS[kind])
    if len(event.get("event_id", "")) > 512:
        raise _too_big("string", "event_id", "maximum 512 characters")
    return kind


def _check_session_type(session: object) -> None:
    if not isinstance(session, dict):
        return
    if "type" not in session:
        raise missing("session.type")
    if session["type"] == "transcription":
        raise invalid("session.type", "a realtime session can't become a transcription session.")


def check_session(session: Mapping[str, Any], *, path: str = "session") -> None:
    """Refuse a whole (already merged) Realtime session that breaks a documented rule."""
    _check_modalities(session, path)
    _check_max_tokens(session, path)
    _check_reasoning(session, path)
    audio = session["audio"]
    _check_input(audio["input"], f"{path}.audio.input")
    check_output(audio["output"], f"{path}.audio.output")


def check_response(response: Mapping[str, Any], path: str = "response") -> None:
    """Refuse the parameters of a response.create that break a documented rule."""
    _check_modalities(response, path)
    _check_max_tokens(response, path)
    check_metadata(response.get("metadata"), f"{path}.metadata")
    check_output((response.get("audio") or {}).get("output") or {}, f"{path}.audio.output")
    if response.get("conversation", "auto") not in ("auto", "none"):
        raise invalid(f"{path}.conversation", "supported values are 'auto' and 'none'.")
    for index, item in enumerate(response.get("input") or []):
        check_item(item, f"{path}.input[{index}]")


def check_item(item: Mapping[str, Any], path: str) -> None:
    """Refuse message items without usable content."""
    if item.get("type") != "message":
        return
    for index, part in enumerate(item["content"]):
        where = f"{path}.content[{index}]"
        if "type" not in part:
            raise missing(f"{where}.type")
        needed = {"input_text": "text", "output_text": "text", "input_audio": "audio"}
        if (field := needed.get(part["type"])) and field not in part:
            raise missing(f"{where}.{field}")


def check_output(output: Mapping[str, Any], path: str) -> None:
    _check_format(output.get("format"), f"{path}.format")
    _check_range(output, "speed", 0.25, 1.5, path)
    voice = output.get("voice", VOICES[0])
    if isinstance(voice, str) and voice not in VOICES:
        raise invalid(f"{path}.voice", f"{voice!r}. Supported values are: {', '.join(VOICES)}.")


def _check_input(audio: Mapping[str, Any], path: str) -> None:
    _check_format(audio.get("format"), f"{path}.format")
    transcription = audio.get("transcription") or {}
    turns = audio.get("turn_detection") or {}
    model = transcription.get("model")
    if transcription and model is None:
        raise missing(f"{path}.transcription.model")
    if model is not None and model not in TRANSCRIPTION_MODELS:
        raise invalid(f"{path}.transcription.model", f"{model!r} is no transcription model.")
    only_some_models = {
        "keywords": WITH_LANGUAGES,
        "languages": WITH_LANGUAGES,
        "delay": {"gpt-realtime-whisper"},
        "prompt": TRANSCRIPTION_MODELS - {"gpt-realtime-whisper"},
    }
    for option, models in only_some_models.items():
        if option in transcription and model not in models:
            raise invalid(f"{path}.transcription.{option}", f"not supported by {model}.")
    _check_languages(transcription, f"{path}.transcription")
    if turns and model in WITHOUT_TURN_DETECTION:
        raise invalid(f"{path}.turn_detection", f"{model} does not support turn detection.")
    _check_range(turns, "threshold", 0.0, 1.0, f"{path}.turn_detection")
    _check_range(turns, "prefix_padding_ms", 0, 60_000, f"{path}.turn_detection")
    _check_range(turns, "silence_duration_ms", 0, 60_000, f"{path}.turn_detection")
    _check_range(turns, "idle_timeout_ms", 5_000, 30_000, f"{path}.turn_detection")


def _check_languages(transcription: Mapping[str, Any], path: str) -> None:
    languages = transcription.get("languages")
    if languages is not None and not languages:
        raise invalid(f"{path}.languages", "at least one language is needed.")
    for index, code in enumerate(languages or []):
        if code not in LANGUAGES:
            raise invalid(f"{path}.languages[{index}]", f"{code!r} is no ISO 639-1 code.")
    code = transcription.get("language")
    ignored = transcription.get("model") in WITH_LANGUAGES
    if code is not None and code not in LANGUAGES and not ignored:
        raise invalid(f"{path}.language", f"{code!r} is no ISO 639-1 code.")


def pinned_languages(transcription: Mapping[str, Any]) -> list[str]:
    """Return the languages that a transcription model is held to; none if it may guess."""
    if transcription["model"] in WITH_LANGUAGES:
        return list(transcription.get("languages") or [])
    return [transcription["language"]] if transcription.get("language") else []


def _check_reasoning(session: Mapping[str, Any], path: str) -> None:
    if session.get("reasoning") and session["model"] not in REASONING_MODELS:
        raise invalid(f"{path}.reasoning", f"{session['model']} does not reason.")


def _check_format(spec: Mapping[str, Any] | None, path: str) -> None:
    if spec is None:
        return
    if "type" not in spec:
        raise missing(f"{path}.type")
    if spec["type"] == "audio/pcm" and "rate" not in spec:
        raise missing(f"{path}.rate")


def _check_modalities(parameters: Mapping[str, Any], path: str) -> None:
    modalities = parameters.get("output_modalities", ["audio"])
    if modalities not in (["audio"], ["text"]):
        raise invalid(
            f"{path}.output_modalities", "supported combinations are ['text'] and ['audio']."
        )


def _check_max_tokens(parameters: Mapping[str, Any], path: str) -> None:
    if parameters.get("max_output_tokens", "inf") != "inf":
        _check_range(parameters, "max_output_tokens", 1, 4096, path)


def _check_range(values: Mapping[str, Any], name: str, low: float, high: float, path: str) -> None:
    value = values.get(name)
    if value is not None and not low <= value <= high:
        raise invalid(f"{path}.{name}", f"{value} is not between {low} and {high}.")
