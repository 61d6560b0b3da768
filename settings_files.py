"""What the files of the settings must hold: each check yields every fault, in plain words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from settings_values import nearest

Json = dict[str, Any]

# --- JSON -------------------------------------------------------------------------------------

# What stands where JSON couldn't be read on, and what to do about it.
FAULTS = {
    r",?\s*[}\]]": "leave out the comma after the last entry",
    "[“”„«»‘’]": 'typographic quotation marks: write the straight one, "',
    "'": 'single quotation marks: write ", the double one',
    r"[\r\n]": r"a line break inside a text: write \n there",
    r"\t": r"a tab inside a text: write \t there, or a space",
    r"//|/\*|#": "JSON takes no comments: leave it out",
    r"None|True|False": "JSON writes null, true and false",
    r'"': "a comma is missing before this",
    r"\\": r"a backslash inside a text: write two, \\",
}


def json_object(path: Path) -> Json:
    """Read the object in a JSON file. ValueError tells, by line, what is wrong with it."""
    text = _text(path)
    if not text.strip():
        raise ValueError(f"{path.name} is empty")
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path.name}, line {error.lineno}: {_reason(error)}") from None
    if not isinstance(content, dict) or not content:
        raise ValueError(f'{path.name}: expected an object with names and values, {{"…": …}}')
    return content


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"{path.name}, line {line}: save the file as UTF-8") from None


def _reason(error: json.JSONDecodeError) -> str:
    before, after = error.doc[: error.pos].rstrip(), error.doc[error.pos :]
    for shape, advice in FAULTS.items():
        if re.match(shape, after):
            is_comma = "comma after" in advice
            if not is_comma or before.endswith(",") or after.startswith(","):
                return advice
    return f"this is no JSON: {error.msg}, column {error.colno}"


def at(content: Any, path: str) -> Any:
    """Return what stands at a dotted path; None if nothing does."""
    for name in path.split("."):
        content = content.get(name) if isinstance(content, Mapping) else None
    return content


def _misspelt(names: Iterator[str] | Mapping[str, Any], known: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        near = nearest(name, known)
        if name not in known and near:
            yield f'"{name}": did you mean "{near}"?'


# --- the voice session ------------------------------------------------------------------------

FORMATS = ({"type": "audio/pcmu"}, {"type": "audio/pcm", "rate": 24000})
VAD = ("server_vad", "semantic_vad")
LONGEST_INSTRUCTIONS = 600  # letters
# Names of Realtime's old shape, and where they are now.
OLD_SHAPE = {
    "modalities": "output_modalities",
    "voice": "audio.output.voice",
    "speed": "audio.output.speed",
    "input_audio_format": "audio.input.format",
    "output_audio_format": "audio.output.format",
    "input_audio_transcription": "audio.input.transcription",
    "input_audio_noise_reduction": "audio.input.noise_reduction",
    "turn_detection": "audio.input.turn_detection",
    "max_response_output_tokens": "max_output_tokens",
    "temperature": "nothing: it is gone",
}
# Names of today's, to find the misspelt ones.
NAMES = {
    "audio": ("input", "output"),
    "audio.input": ("format", "noise_reduction", "transcription", "turn_detection"),
    "audio.input.noise_reduction": ("type", "strength"),
    "audio.input.transcription": (
        "model",
        "language",
        "languages",
        "keywords",
        "prompt",
        "delay",
    ),
    "audio.input.turn_detection": (
        "type",
        "threshold",
        "prefix_padding_ms",
        "silence_duration_ms",
        "eagerness",
        "create_response",
        "interrupt_response",
        "idle_timeout_ms",
    ),
    "audio.output": ("format", "voice", "speed"),
}
SESSION_NAMES = (
    "type",
    "instructions",
    "tool_choice",
    "tools",
    "output_modalities",
    "audio",
    "include",
    "max_output_tokens",
    "parallel_tool_calls",
    "reasoning",
    "tracing",
    "truncation",
    "prompt",
    "model",
)


def session_faults(session: Json) -> Iterator[str]:
    """Yield what the calls can't work with in what is sent as `session.update`."""
    if "session" in session:
        yield 'this is a whole "session.update" event: keep only what stands in its "session"'
        return
    old = [name for name in OLD_SHAPE if name in session]
    for name in old:
        yield f'"{name}" is of Realtime\'s old beta shape; now it is {OLD_SHAPE[name]}'
    if old:
        return
    yield from _general_faults(session)
    yield from _instruction_faults(session)
    yield from _format_faults(session)
    yield from _transcription_faults(at(session, "audio.input.transcription"))
    yield from _turn_faults(at(session, "audio.input.turn_detection"))


def _general_faults(session: Json) -> Iterator[str]:
    if session.get("type") != "realtime":
        yield 'say "type": "realtime"'
    if session.get("output_modalities", ["audio"]) != ["audio"]:
        yield 'output_modalities: say ["audio"], the caller must hear something'
    yield from _misspelt(session, SESSION_NAMES)
    for path, known in NAMES.items():
        part = at(session, path)
        if isinstance(part, dict):
            for fault in _misspelt(part, known):
                yield f"{path}.{fault}"


def _instruction_faults(session: Json) -> Iterator[str]:
    instructions = session.get("instructions")
    if "prompt" in session:
        yield "prompt: Realtime only reads aloud here; an agent's prompt belongs in the workflow"
    if not isinstance(instructions, str) or not instructions.strip():
        yield "instructions: tell it to read the text aloud, as the shipped file does"
    elif _is_agents_prompt(instructions):
        yield (
            "instructions: tell it only to read the text aloud, as the shipped file does;"
            " an agent's prompt belongs in the workflow's file"
        )


def _is_agents_prompt(text: str) -> bool:
    agent = re.search(r"\b(you are|you're|your name|assistant|receptionist|help)\b", text, re.I)
    reader = re.search(r"\b(read|aloud|verbatim|word for word|repeat)", text, re.I)
    return len(text) > LONGEST_INSTRUCTIONS or bool(agent and not reader)


def _format_faults(session: Json) -> Iterator[str]:
    for path in ("audio.input.format", "audio.output.format"):
        if at(session, path) not in FORMATS:
            yield f'{path}: say {{"type": "audio/pcmu"}}, or {{"type": "audio/pcm", "rate": 24000}}'


def _transcription_faults(transcription: Any) -> Iterator[str]:
    where = "audio.input.transcription"
    model = at(transcription, "model")
    if not isinstance(model, str) or not model.strip():
        yield f'{where}: name a "model", such as "gpt-transcribe"'
        return
    if model in ("gpt-live-transcribe", "gpt-realtime-whisper"):
        yield f'{where}.model: {model} takes no turn_detection; say "gpt-transcribe"'
    one, several = transcription.get("language"), transcription.get("languages")
    if model == "gpt-transcribe":
        if one is not None:
            yield f'{where}: gpt-transcribe ignores "language"; say "languages": ["{one}"]'
    elif several is not None:
        yield f'{where}: {model} has no "languages"; say "language": "en"'
    for code in _codes(one, several):
        if not isinstance(code, str) or not re.fullmatch("[a-z]{2,3}", code):
            yield f'{where}: expected languages as "en" or "de", not {json.dumps(code)}'


def _codes(one: Any, several: Any) -> list[Any]:
    codes = [] if one is None else [one]
    if several is None:
        return codes
    return [*codes, *several] if isinstance(several, list) and several else [*codes, several]


def _turn_faults(turns: Any) -> Iterator[str]:
    where = "audio.input.turn_detection"
    if at(turns, "type") not in VAD:
        yield f'{where}.type: say "server_vad" or "semantic_vad"'
    for name in ("create_response", "interrupt_response"):
        if at(turns, name) is not False:
            yield f'{where}: say "{name}": false'
    if at(turns, "idle_timeout_ms") is not None:
        yield f"{where}.idle_timeout_ms: leave it out, the model would improvise; see IDLE_SECONDS"


def session_language(session: Json) -> str:
    """Return the code of the language that is spoken, "en" if the session doesn't tell."""
    transcription = at(session, "audio.input.transcription") or {}
    several = transcription.get("languages") or []
    return str([*several, transcription.get("language") or "en"][0])


# --- the workflow -----------------------------------------------------------------------------

WORKFLOW_NAMES = (
    "model",
    "instructions",
    "tools",
    "tool_choice",
    "reasoning",
    "text",
    "temperature",
    "top_p",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "service_tier",
    "store",
    "truncation",
    "include",
)
ADDED = ("conversation", "input", "stream", "previous_response_id", "messages")
# Kinds of tools that run where the request comes from: here, where none can.
OUR_TOOLS = ("function", "custom", "local_shell", "apply_patch", "computer", "computer_use_preview")


def workflow_faults(workflow: Json) -> Iterator[str]:
    """Yield what can't work in the parameters of the workflow's Responses calls."""
    model = workflow.get("model")
    if not isinstance(model, str) or not model.strip():
        yield 'name a "model", such as "gpt-6-luna"'
    if not isinstance(workflow.get("instructions", ""), str):
        yield "instructions: expected one text"
    for name in ADDED:
        if name in workflow:
            yield f'leave out "{name}": each call has its own'
    yield from _misspelt(workflow, WORKFLOW_NAMES)
    tools = workflow.get("tools") or []
    if not isinstance(tools, list):
        yield "tools: expected a list"
        return
    for number, tool in enumerate(tools):
        for fault in _tool_faults(tool):
            yield f"tools[{number}]: {fault}"


def _tool_faults(tool: Any) -> Iterator[str]:
    kind = at(tool, "type")
    if not isinstance(kind, str):
        yield 'expected an object with a "type"'
    elif kind in OUR_TOOLS:
        yield f"a {kind} tool can't run here; use hosted tools, or a remote MCP server"
    elif kind == "mcp" and tool.get("require_approval", "always") == "always":
        yield 'say "require_approval": "never", nobody on the phone can approve'
