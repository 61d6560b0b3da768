"""What the files of the settings must hold: types whose checks tell every fault by its path."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from messages import find
from settings_env import Values, filled, read_env_file
from settings_json import Json, json_object
from settings_values import kind_of, nearest

HERE = Path(__file__).parent


def _names(content: Json) -> Iterator[str]:
    for name, value in content.items():
        yield name
        if isinstance(value, dict):
            yield from _names(value)


def _misspelt(name: str, known: Collection[str]) -> Iterator[str]:
    near = nearest(name, known, 0.75)
    if near not in ("", name):
        yield f'{name}: did you mean "{near}"?'


# --- the voice session ------------------------------------------------------------------------

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
    "temperature": "gone",
}
# Names of today's, to find the misspelt ones.
SESSION_NAMES = (
    *("type", "instructions", "output_modalities", "audio", "input", "output", "reasoning"),
    *("format", "rate", "noise_reduction", "strength", "transcription", "turn_detection"),
    *("model", "language", "languages", "keywords", "prompt", "voice", "speed", "effort"),
    *("create_response", "interrupt_response", "idle_timeout_ms", "eagerness"),
    *("threshold", "prefix_padding_ms", "silence_duration_ms", "tools", "tool_choice"),
    # Right, though they look like others
    *("post_instructions", "description", "server_description", "mode"),
)
# Numbers that Realtime takes within bounds only; milliseconds and factors
BOUNDS = {
    "audio.input.turn_detection.threshold": (0, 1),
    "audio.input.turn_detection.prefix_padding_ms": (0, 5000),
    "audio.input.turn_detection.silence_duration_ms": (0, 5000),
    "audio.output.speed": (0.25, 1.5),
}
FORMATS = ({"type": "audio/pcmu"}, {"type": "audio/pcm", "rate": 24000})
LONGEST_INSTRUCTIONS = 600  # letters; whoever only reads aloud needs to be told little
PROMPTS_PLACE = "it only reads aloud; an agent's prompt belongs in the workflow's file"


def session_faults(session: Json) -> Iterator[str]:
    """Yield what the calls can't work with in what is sent as `session.update`."""
    old_names = [name for name in OLD_SHAPE if name in session]
    if "session" in session:
        yield 'this is a whole "session.update" event; keep only the object in its "session"'
    elif old_names:
        for name in old_names:
            yield f"{name}: from Realtime's old beta shape; it is now {OLD_SHAPE[name]}"
    else:
        yield from _faults_of_today(session)


def _faults_of_today(session: Json) -> Iterator[str]:
    if session.get("type") != "realtime":
        yield 'type: set it to "realtime"'
    if session.get("output_modalities", ["audio"]) != ["audio"]:
        yield 'output_modalities: set it to ["audio"]'
    for path in ("audio.input.format", "audio.output.format"):
        if find(session, path) not in FORMATS:
            yield f'{path}: use {{"type": "audio/pcmu"}}, or {{"type": "audio/pcm", "rate": 24000}}'
    for path, (least, most) in BOUNDS.items():
        if not _is_within(find(session, path), least, most):
            yield f"{path}: expected a number from {least} to {most}"
    for name in _names(session):
        yield from _misspelt(name, SESSION_NAMES)
    yield from _instruction_faults(session)
    yield from _transcription_faults(find(session, "audio.input.transcription"))
    yield from _turn_faults(find(session, "audio.input.turn_detection"))


def _is_within(value: Any, least: float, most: float) -> bool:
    """Tell whether a value is a number within bounds, or not there."""
    if value is None:
        return True
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and least <= value <= most


def _instruction_faults(session: Json) -> Iterator[str]:
    text = session.get("instructions")
    if not isinstance(text, str) or not text.strip():
        yield "instructions: tell it to read the text aloud, as the shipped file does"
    if "prompt" in session:
        yield "prompt: remove it; an agent's prompt belongs in the workflow's file"


def session_doubts(session: Json) -> Iterator[str]:
    """Yield why the voice session's instructions may be an agent's prompt; prose is no proof."""
    text = session["instructions"]
    agent = re.search(r"\b(you are|you're|your name is|help (the )?(caller|customer))", text, re.I)
    reader = re.search(r"\b(read|aloud|verbatim|word for word|repeat)", text, re.I)
    if len(text) > LONGEST_INSTRUCTIONS:
        yield f"The voice session's instructions have {len(text)} letters: {PROMPTS_PLACE}"
    elif agent and not reader:
        sign = f'say "{agent[0]}", and nothing of reading aloud'
        yield f"The voice session's instructions {sign}: {PROMPTS_PLACE}"


def _transcription_faults(transcription: Any) -> Iterator[str]:
    where = "audio.input.transcription"
    model = find(transcription, "model")
    if not isinstance(model, str) or not model.strip():
        yield f'{where}: name a "model", such as "gpt-transcribe"'
        return
    if model in ("gpt-live-transcribe", "gpt-realtime-whisper"):
        yield f'{where}.model: {model} has no turn_detection; use "gpt-transcribe"'
    language = transcription.get("language")
    languages = transcription.get("languages")
    if language is not None and model.startswith("gpt-transcribe"):
        yield f'{where}.language: {model} ignores it; use "languages": ["{language}"]'
    if languages is not None and model.startswith(("whisper", "gpt-4o")):
        yield f'{where}.languages: {model} ignores it; use "language": "en"'
    if not _is_code(language or "en"):
        yield f'{where}.language: expected a code such as "en" or "de"'
    if languages is not None and not _are_codes(languages):
        yield f'{where}.languages: expected a list of codes such as "en" or "de"'


def _is_code(language: Any) -> bool:
    return bool(re.fullmatch("[a-z]{2,3}", str(language)))


def _are_codes(languages: Any) -> bool:
    if not isinstance(languages, list) or not languages:
        return False
    return all(_is_code(code) for code in languages)


def _turn_faults(turns: Any) -> Iterator[str]:
    where = "audio.input.turn_detection"
    if find(turns, "type") not in ("server_vad", "semantic_vad"):
        yield f'{where}.type: set it to "server_vad" or "semantic_vad"'
    for name in ("create_response", "interrupt_response"):
        if find(turns, name) is not False:
            yield f'{where}: set "{name}": false'
    if find(turns, "idle_timeout_ms") is not None:
        yield f"{where}.idle_timeout_ms: remove it; the model would improvise; see IDLE_SECONDS"


def pinned_languages(session: Json) -> list[str]:
    """Return the codes of the languages that are heard, such as ["en"]; [] if it doesn't tell."""
    transcription = find(session, "audio.input.transcription")
    one = transcription.get("language")
    return list(transcription.get("languages") or filter(None, [one]))


# --- the workflow -----------------------------------------------------------------------------

WORKFLOW_NAMES = ("model", "instructions", "tools", "tool_choice", "reasoning", "temperature")
# What the app adds, or would add: a conversation is the call's.
ADDED = ("conversation", "input", "stream", "previous_response_id", "messages")
# Parameters of other APIs of OpenAI's, and what they are called here.
ELSEWHERE = {
    "max_tokens": '"max_output_tokens"',
    "max_completion_tokens": '"max_output_tokens"',
    "response_format": '"text"',
    "reasoning_effort": '"reasoning": {"effort": …}',
    "verbosity": '"text": {"verbosity": …}',
    "functions": '"tools"',
    "system": '"instructions"',
    "system_prompt": '"instructions"',
}
HOSTED_TOOLS = ("web_search", "file_search", "code_interpreter", "image_generation", "mcp")
# Kinds of tools that run where the request comes from: here, where none can.
OUR_TOOLS = ("function", "custom", "local_shell", "apply_patch", "computer", "computer_use_preview")


def workflow_faults(workflow: Json) -> Iterator[str]:
    """Yield what can't work in the parameters of the workflow's Responses calls."""
    yield from _model_faults(workflow.get("model"))
    if not isinstance(workflow.get("instructions", ""), str):
        yield "instructions: expected one text"
    if find(workflow, "text.format.type") not in (None, "text"):
        yield "text.format: remove it; the caller would hear JSON"
    for name in workflow:
        yield from _name_faults(name)
    yield from _tools_faults(workflow.get("tools", []))


def _name_faults(name: str) -> Iterator[str]:
    if name in ADDED:
        yield f"{name}: remove it; every turn sets its own"
    elif name == "prompt":
        yield 'prompt: reusable prompts end on 2026-11-30; copy its text into "instructions"'
    elif name in ELSEWHERE:
        yield f"{name}: from another API of OpenAI's; here it is {ELSEWHERE[name]}"
    else:
        yield from _misspelt(name, WORKFLOW_NAMES)


def _tools_faults(tools: Any) -> Iterator[str]:
    if not isinstance(tools, list):
        yield "tools: expected a list"
        return
    for number, tool in enumerate(tools, 1):
        for fault in _tool_faults(tool):
            yield f"tools, number {number}: {fault}"


def _model_faults(model: Any) -> Iterator[str]:
    if not isinstance(model, str) or not model.strip():
        yield 'name a "model", such as "gpt-6-luna"'
        return
    kind = kind_of(model)
    if kind not in ("", "a model"):
        yield f'model: expected one such as "gpt-6-luna", not {kind}'
    if "realtime" in model:
        yield f'model: {model} only speaks; expected one such as "gpt-6-luna"'


def _tool_faults(tool: Any) -> Iterator[str]:
    kind = find(tool, "type")
    if not isinstance(kind, str):
        yield 'expected an object with a "type"'
    elif kind in OUR_TOOLS:
        yield f"a {kind} tool can't run here; use hosted tools, or a remote MCP server"
    elif kind not in HOSTED_TOOLS:
        yield from _misspelt(kind, HOSTED_TOOLS)
    elif kind == "mcp" and tool.get("require_approval", "always") == "always":
        yield 'set "require_approval": "never"; nobody on the phone can approve'
    variable = _variable_of(tool)
    if variable and variable not in _variables():
        yield f"authorization: {variable} is not set, neither in the environment nor in .env"


def with_secrets(workflow: Json) -> Json:
    """Fill in each tool's `"authorization": "$NAME"` from the environment, or from `.env`."""
    for tool in workflow.get("tools", []):
        variable = _variable_of(tool)
        if variable:
            tool["authorization"] = _variables()[variable]
    return workflow


def _variable_of(tool: Any) -> str:
    secret = str(find(tool, "authorization"))
    found = re.fullmatch(r"\$(\w+)", secret)
    return found[1] if found else ""


def _variables() -> Values:
    return read_env_file(HERE / ".env").values | filled(os.environ)


# --- the types --------------------------------------------------------------------------------


def _read(name: Any) -> Any:
    if not isinstance(name, str):
        return name
    if not name.endswith(".json"):
        raise ValueError("Expected the path of a .json file")
    return json_object(HERE / name)


def _refuse(faults: Iterator[str]) -> None:
    lines = list(faults)
    if lines:
        raise ValueError("\n".join(lines))


def _session(session: Json) -> Json:
    _refuse(session_faults(session))
    return session


def _workflow_id(value: str) -> str:
    if value.endswith(".json"):
        file = _file_meant(value)
        if file and not (HERE / value).exists():
            raise ValueError(f"No such file; did you mean {file}?")
        _refuse(workflow_faults(json_object(HERE / value)))
    elif not re.fullmatch(r"asst_\w+", value):
        raise ValueError(_workflow_advice(value))
    return value


def _workflow_advice(value: str) -> str:
    file = _file_meant(value)
    if file:
        return f"Did you mean the file {file}?"
    what = "Expected an ID that begins with 'asst', or a .json file"
    if value.startswith("agent_"):
        what = "OpenAI's Agents API isn't supported"
    elif _is_nearly_an_assistant(value):
        what = "An assistant's ID begins with asst_, in small letters; OpenAI has ended them"
    kind = kind_of(value)
    instead = f"instead of {kind}" if kind else "or another .json file"
    return f"Set AGENT_WORKFLOW_ID=workflow.json {instead}, see FIX_AUDIO_ISSUE.md. ({what})"


def _file_meant(value: str) -> str:
    """Return the file here whose name is this, or nearly, with any ending or none; else ""."""
    files = {path.name.lower(): path.name for path in HERE.glob("*.json")}
    stem = re.sub(r"\.\w*$", "", value.lower())
    return files.get(nearest(f"{stem}.json", files, 0.85), "")


def _is_nearly_an_assistant(value: str) -> bool:
    """Tell whether a value seems to be a mistyped `asst_…`."""
    beginning = re.match(r"[a-z]*", value.lower())
    return bool(beginning and nearest(beginning[0], ("asst", "assistant"), 0.8))


FromFile = BeforeValidator(_read)
SessionFile = Annotated[Json, FromFile, AfterValidator(_session)]
WorkflowId = Annotated[str, AfterValidator(_workflow_id)]
