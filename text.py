"""A reply, while it is written, becomes sentences fit to be spoken."""

import re
from collections.abc import Iterable, Iterator

from grammar import CERTAIN, ends_sentence, is_open
from markup import CONTROL, SPAN, plain
from words import last_cut, speech_ms

# How long a piece must take to say, in ms. Shorter sentences of a paragraph are said as one, which
# sounds better than two; but the first words of a reply come early.
ENOUGH = 1300
ENOUGH_AT_FIRST = 400

# How much of a reply is looked at, in letters. A first sentence that isn't enough waits for this
# much, since others as short may follow; a long one is cut at a comma; a link is held back until
# it is complete.
EARLY = 24
LONG = 200
LONGEST = 1000

ENDS = f".!?…۔։{CERTAIN}"
SIGNS = "。！？｡"
GAP = r"[^\S\n]"
QUOTES = "\"'“‘„«»¿¡*_`~"  # and markup: what stands before a word
# Quotes, brackets and markup that close; footnotes and citations, and what may become one
CLOSING = rf"{GAP}?»|[\"'”’“«)\]】」』）*_`~]|\[\^\w*\]|\[[\d, –-]*\]|【[^【】\s{SIGNS}]*】"
CLOSING_BEGUN = rf"\[[^\[\]\n]*|【[^【】\s{SIGNS}]*"

# What can't be heard and would hide what is beside it: control characters, spaces without width,
# marks of direction, soft hyphens, letters that were lost
INAUDIBLE = re.compile(
    "[\0-\b\x0e-\x1b\x7f-\x84\x86-\x9f\xad"
    "\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufffd]"
)

# Where a sentence may end: at a control marker, which takes the full stop after it along, and isn't
# the text of an inline link; at a line break; at a full stop of Chinese or Japanese; at another,
# once the next word has begun. What may become one of these with the next letters is pending.
PLACE = re.compile(
    rf"(?P<marker>{CONTROL}(?P<after>[.!?…]|(?=[^.!?…(])))"
    r"|(?P<line>\n)"
    rf"|(?P<sign>[{SIGNS}])"
    rf"|(?P<mark>[{ENDS};])(?P<closing>(?:{CLOSING})*)"
    rf"(?:{GAP}+|(?<=[{CERTAIN}])(?![{ENDS}]))(?=[{QUOTES}]*(?P<next>[^\s{QUOTES}]))"
    rf"|(?P<pending>\[[^\[\]\n]*\]?\Z|[{ENDS};](?:{CLOSING})*(?:{CLOSING_BEGUN}|{GAP}*[{QUOTES}]*)\Z)"
)
START = re.compile(rf"[\[\n;{SIGNS}{ENDS}]")
AT_END = re.compile(rf"[{ENDS}{SIGNS}](?:{CLOSING})*\s*$")

# Where a long sentence may be cut: not inside a link
PAUSE = re.compile(
    rf"{SPAN}"
    rf"|(?P<comma>[,;:!?…–—،؛][\"'”’»)*_]*{GAP}+|[，、；：])"
    rf"|(?P<space>{GAP}+)"
)


def sentences(chunks: Iterable[str], language: str = "en") -> Iterator[str]:
    """Cut a reply into sentences fit to be spoken, each as soon as its end is certain.

    Yields plain text without markdown, links or citations; a control marker comes as an item of
    its own, exactly `[hangup]` or `[transfer]`, whatever else stood between its brackets. The
    language is that of the voice session ("en", "pt-BR"). The cut is the same however the reply
    is divided into chunks.
    """
    reply = _Reply(language)
    for chunk in chunks:
        letters = INAUDIBLE.sub("", chunk)
        for start in range(0, len(letters), LONG):
            yield from reply.add(letters[start : start + LONG])
    yield from reply.end()


class _Reply:
    """What has come of a reply and isn't cut yet.

    Each place is judged once, by the letters up to it, so that nothing depends on how many more
    have come.
    """

    def __init__(self, language: str) -> None:
        self._language = re.split("[-_]", language.lower())[0]
        self._first = True  # nothing has been said yet
        self._begin("\n")

    def _begin(self, text: str) -> None:
        self._text = text  # a line begins with its line break
        self._seen = 1 if text.startswith("\n") else 0  # up to here all is judged
        self._limit = LONG  # nobody looks further than this
        self._early = 0  # where to cut if nothing better comes before the limit

    def add(self, letters: str) -> Iterator[str]:
        self._text += letters
        place = self._next_place()
        while place or len(self._text) > self._limit:
            if place:
                yield from self._judge(place)
            else:
                yield from self._cut_long()
            place = self._next_place()

    def end(self) -> Iterator[str]:
        yield from self.add("\n")
        yield from self._cut(len(self._text))

    def _next_place(self) -> re.Match[str] | None:
        for start in START.finditer(self._text, self._seen, self._limit):
            self._seen = start.start()
            place = PLACE.match(self._text, self._seen, self._limit)
            if place and place["pending"]:
                return None
            if place:
                return place
        self._seen = min(len(self._text), self._limit)
        return None

    def _judge(self, place: re.Match[str]) -> Iterator[str]:
        self._seen = place.end()
        if place["marker"]:
            yield from self._cut_marker(place)
        elif self._is_end(place):
            yield from self._cut_if_enough(place)

    def _cut_marker(self, place: re.Match[str]) -> Iterator[str]:
        before = self._text[: place.start()] + place["after"]
        yield from self._emit(plain(before), place.end())
        action = re.sub("[^a-z]", "", place["action"].lower())
        yield f"[{action}]"

    def _is_end(self, place: re.Match[str]) -> bool:
        if place["line"]:
            return True
        if place["sign"]:
            return not is_open(self._text[: place.start()])
        before = self._text[: place.start("closing")]
        return ends_sentence(before, place["closing"], place["next"], self._language)

    def _cut_if_enough(self, place: re.Match[str]) -> Iterator[str]:
        end = place.start() if place["line"] else place.end()
        piece = self._text[:end]
        sentence = plain(piece)
        if self._is_enough(place, piece, sentence):
            yield from self._emit(sentence, end)
        elif self._first:
            self._early = end
            self._limit = EARLY

    def _is_enough(self, place: re.Match[str], piece: str, sentence: str) -> bool:
        if place["line"]:
            is_item = not AT_END.search(piece)  # or a heading
            is_paragraph = piece.endswith("\n")  # what follows may be long in coming
            if is_item or is_paragraph:
                return True
        enough = ENOUGH_AT_FIRST if self._first and not self._early else ENOUGH
        return speech_ms(sentence) >= enough

    def _cut_long(self) -> Iterator[str]:
        end = self._early or _last_pause(self._text, self._limit)
        if end == 0 and self._limit < LONGEST:
            self._limit += LONG
        else:
            yield from self._cut(end or self._limit)

    def _cut(self, end: int) -> Iterator[str]:
        sentence = plain(self._text[:end])
        yield from self._emit(sentence, end)

    def _emit(self, sentence: str, end: int) -> Iterator[str]:
        self._begin(self._text[end:])
        if sentence:
            self._first = False
            yield sentence


def _last_pause(text: str, limit: int) -> int:
    """Return where `text` is best cut: after a comma, a space, at the limit; 0 within a link."""
    comma = 0
    space = 0
    for pause in PAUSE.finditer(text, 0, limit):
        if pause["comma"] and pause.end() > LONG // 4:
            comma = pause.end()
        elif pause["space"]:
            space = pause.end()
        elif pause["begun"]:
            return comma or space
    return comma or space or last_cut(text, limit)
