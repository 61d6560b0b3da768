"""The words of a text: which were heard, how long they take, whether two are the same."""

import re
import unicodedata

# Scripts without spaces between words: Thai, Lao, Tibetan, Burmese, Khmer, kana, Chinese
SPACELESS = "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
WORD = re.compile(rf"[{SPACELESS}]|[^\s{SPACELESS}]+")
# Of Thai and Lao, the vowels written before their consonant; of Burmese and Khmer, the sign that
# stacks the next consonant; and what is written after its letter without being a mark on it
LEADING = frozenset("เแโใไເແໂໃໄ\u1039\u17d2")
TRAILING = frozenset("ะาำๅๆະາຳໆ々ーぁぃぅぇぉゃゅょァィゥェォャュョ")

# Scripts that write a syllable a sign: kana, Chinese, Korean
SYLLABLE = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")
MS_PER_SYLLABLE = 200
MS_PER_LETTER = 65


def heard_part(text: str, fraction: float) -> str:
    """Return the words of `text` heard when `fraction` (0 to 1) of its sound was played.

    Where a script has no spaces, a word is one sign with all that is written on it.
    """
    ends = [0]
    for word in WORD.finditer(text):
        if not _is_inside(text, word.end()):
            ends.append(word.end())
    played = fraction * len(text)
    return text[: min(ends, key=lambda end: abs(end - played))]


def last_cut(text: str, limit: int) -> int:
    """Return the last place up to `limit` where a cut parts nothing that is written as one."""
    place = limit
    while place and _is_inside(text, place):
        place -= 1
    return place or limit


def _is_inside(text: str, place: int) -> bool:
    """Tell whether a cut at `place` would part what is written as one."""
    if place == len(text):
        return False
    if text[place - 1] in LEADING or text[place] in TRAILING:
        return True
    return _kind(text[place]) == "M"


def speech_ms(text: str) -> float:
    """Return an estimate of how many ms `text` takes to say, at least 1."""
    syllables = len(SYLLABLE.findall(text))
    letters = len(text) - syllables
    ms = syllables * MS_PER_SYLLABLE + letters * MS_PER_LETTER
    return max(1, ms)


def count_words(text: str) -> int:
    """Count the words; where a script has no spaces, each sign is one."""
    return sum(any(map(_is_spoken, word)) for word in WORD.findall(text))


def same_words(asked: str, said: str) -> bool:
    """Tell whether two texts have the same words, whatever their case and punctuation."""
    return _words(asked) == _words(said)


def _words(text: str) -> list[str]:
    letters = unicodedata.normalize("NFKC", text).casefold()
    spoken = [letter if _is_spoken(letter) else " " for letter in letters]
    return WORD.findall("".join(spoken))


def _is_spoken(letter: str) -> bool:
    # Letters, numbers, and marks on them: in Hindi most of the vowels are marks
    return _kind(letter) in "LNM"


def _kind(letter: str) -> str:
    category = unicodedata.category(letter)
    return category[0]
