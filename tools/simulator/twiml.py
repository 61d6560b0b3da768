"""TwiML as Twilio reads it: what is well formed, which verbs exist, what each may carry."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from xml.etree import ElementTree

CONTENT_TYPES = {"text/xml", "application/xml", "text/html"}
MAX_DOCUMENT = 64 * 1024


class TwimlError(Exception):
    """A document Twilio cannot run at all: `code` is Twilio's error code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


@dataclass
class Verb:
    """One element of a document."""

    name: str
    attributes: dict[str, str]
    text: str
    children: list[Verb]


@dataclass
class Document:
    """The verbs to run, in order, and what Twilio would warn about (and leave out)."""

    verbs: list[Verb] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Rule:
    attributes: frozenset[str]
    children: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_RULES = {
    "Response": _Rule(_words(""), _words("Connect Dial Hangup Pause Redirect Reject Say")),
    "Connect": _Rule(_words("action method"), _words("Stream")),
    "Stream": _Rule(
        _words("url name track statusCallback statusCallbackMethod"),
        _words("Parameter"),
        _words("url"),
    ),
    "Parameter": _Rule(_words("name value"), required=_words("name value")),
    "Redirect": _Rule(_words("method")),
    "Say": _Rule(_words("voice language loop")),
    "Pause": _Rule(_words("length")),
    "Hangup": _Rule(_words("")),
    "Reject": _Rule(_words("reason")),
    "Dial": _Rule(
        _words(
            "action answerOnBridge callerId callReason hangupOnStar method record"
            " recordingStatusCallback recordingStatusCallbackEvent recordingStatusCallbackMethod"
            " ringTone sequential timeLimit timeout trim"
        ),
        _words("Number"),
    ),
    "Number": _Rule(
        _words("sendDigits statusCallback statusCallbackEvent statusCallbackMethod url method")
    ),
}
_VALUES = {
    ("Reject", "reason"): re.compile("rejected|busy"),
    ("Redirect", "method"): re.compile("GET|POST"),
    ("Connect", "method"): re.compile("GET|POST"),
    ("Dial", "method"): re.compile("GET|POST"),
    ("Pause", "length"): re.compile("[0-9]+"),
    ("Say", "loop"): re.compile("[0-9]+"),
    ("Say", "language"): re.compile("[a-z]{2,3}(-[A-Z][a-z]{3})?(-[A-Z]{2}|-[0-9]{3})?(-WLS)?"),
    ("Stream", "track"): re.compile("inbound_track"),  # all that <Connect> allows
}
_MUST_CONTAIN = {"Connect": "Stream"}


def parse(body: bytes, content_type: str = "text/xml") -> Document:
    """Return the document in `body`.

    Unknown or misplaced elements and attributes are left out and become problems (error 12200).

    :raises TwimlError: 12300 content type, 12100 not XML or not a <Response>, 11750 too large.
    """
    kind = content_type.split(";", maxsplit=1)[0].strip().lower()
    if kind not in CONTENT_TYPES:
        raise TwimlError(12300, f"content type {content_type!r} is not XML")
    if len(body) > MAX_DOCUMENT:
        raise TwimlError(11750, f"the document has {len(body)} bytes")
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError as error:
        raise TwimlError(12100, f"the document does not parse: {error}: {body[:200]!r}") from error
    if root.tag != "Response":
        raise TwimlError(12100, f"the root element is <{root.tag}>, not <Response>")
    document = Document()
    document.verbs = _read(root, document.problems).children
    if any(verb.name == "Reject" for verb in document.verbs[1:]):
        document.problems.append("12200: <Reject> is only allowed as the first verb")
    return document


def stream_problem(verb: Verb, scheme: str = "wss") -> str | None:
    """Return why Twilio would not open this <Stream>, or None.

    The real one wants `wss`; `ws` is for an app that says itself that it is on this machine only.
    """
    url = urlsplit(verb.attributes.get("url", ""))
    if url.scheme != scheme or not url.netloc:
        return f"31920: <Stream> needs a {scheme}:// url, not {url.geturl()!r}"
    if url.query or url.fragment:
        return f"31920: a <Stream> url cannot carry a query: {url.geturl()!r}"
    for parameter in verb.children:
        if sum(map(len, parameter.attributes.values())) >= 500:
            return f"31943: <Parameter> {parameter.attributes.get('name')!r} is 500 or longer"
    return None


def _read(element: ElementTree.Element, problems: list[str]) -> Verb:
    rule = _RULES[element.tag]
    problems += [
        f"12200: <{element.tag}> has no attribute {name!r}"
        for name in element.attrib.keys() - rule.attributes
    ]
    problems += [
        f"12200: <{element.tag}> needs the attribute {name!r}"
        for name in sorted(rule.required - element.attrib.keys())
    ]
    attributes = {}
    for name in element.attrib.keys() & rule.attributes:
        allowed = _VALUES.get((element.tag, name))
        if allowed and not allowed.fullmatch(element.attrib[name]):
            problems.append(f"12200: <{element.tag} {name}={element.attrib[name]!r}> is no value")
        else:
            attributes[name] = element.attrib[name]
    children = []
    for child in element:
        if child.tag in rule.children:
            children.append(_read(child, problems))
        else:
            problems.append(f"12200: <{child.tag}> is not allowed in <{element.tag}>")
    needed = _MUST_CONTAIN.get(element.tag)
    if needed and len(children) != 1:
        problems.append(f"12200: <{element.tag}> needs exactly one <{needed}>")
    return Verb(element.tag, attributes, " ".join((element.text or "").split()), children)
