"""Text, as it is spoken and heard: sentences from a reply, and how much of one was heard."""

import re
from collections.abc import Iterable, Iterator

END = re.compile(r"(?=\n)|(?<=[。！？])|(?<=[.!?…])[^\S\n]+")
CONTROL = re.compile(r"\[\s*(hangup|transfer)\b[^\]]*\]", re.IGNORECASE)

# Scripts that write no spaces between words: Thai to Khmer, kana, Chinese
SPACELESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3001-\u30ff\u3400-\u9fff\uf900-\uffef"
SIGN = re.compile(f"[{SPACELESS}]")
WORD = re.compile(rf"[{SPACELESS}]|[^\s{SPACELESS}]+")
MS_PER_LETTER = 65
MS_PER_SIGN = 200


def sentences(chunks: Iterable[str], language: str = "en") -> Iterator[str]:
    """Cut a reply into sentences fit to be spoken, each as soon as its end is certain."""
    text = ""
    for chunk in (*chunks, "\n"):
        *pieces, text = END.split(text + chunk)
        for piece in pieces:
            plain = " ".join(CONTROL.sub("", piece).split())
            if plain:
                yield plain
            for marker in CONTROL.findall(piece):
                yield f"[{marker.lower()}]"


def heard_part(text: str, fraction: float) -> str:
    """Return the words of `text` heard when `fraction` (0 to 1) of its sound was played."""
    ends = [0, *(word.end() for word in WORD.finditer(text))]
    return text[: min(ends, key=lambda end: abs(end - fraction * len(text)))]


def speech_ms(text: str) -> float:
    """Return a guess of how many ms it takes to say `text`: at least 1."""
    signs = len(SIGN.findall(text))
    letters = len(text) - signs
    return max(1, signs * MS_PER_SIGN + letters * MS_PER_LETTER)


def same_words(asked: str, said: str) -> bool:
    """Tell whether two texts have the same words, whatever their case and punctuation."""
    return re.findall(r"\w+", asked.lower()) == re.findall(r"\w+", said.lower())
