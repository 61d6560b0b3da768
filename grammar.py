"""Where a sentence ends: a false end is heard, a missed one costs a little time."""

import re
import unicodedata

import sentencex  # type: ignore[import-untyped]

# A quotation or a bracket that is open keeps a sentence from ending
PAIRS = {"(": ")", "[": "]", "（": "）", "【": "】", "\ue200": "\ue201", '"': '"'}
PAIRS |= {"“": "”", "„": "“", "«": "»", "»": "«", "「": "」", "『": "』"}
BRACKET = re.compile(f"[{re.escape(''.join([*PAIRS, *PAIRS.values()]))}]")
EMPHASIS = re.compile(r"[*_`~\\]+")
QUOTES = frozenset("\"'”’“»)」』")

# No sentence ends with "J.", "a.m." or "z. B."; with the number of a day or an item: "3. Mai";
INITIAL_OR_ORDINAL = re.compile(r"(?<!\w)(?:[a-zA-ZÀ-ۿ]|(?<![.,:$€£])\d\d?)\.$")
# with a short word before a number: "approx. 45", "Art. 5", "Hauptstr. 12";
BEFORE_NUMBER = re.compile(r"(?<!\w)(?:[^\W\d_]{1,6}|\w*str)\.$")
# or with these, whatever the language: sentencex knows more of them, but only in their own
KNOWN = """
    approx Apt Ave Blvd Dept Dr Inc Jr LLC Ltd Messrs Mgr Mr Mrs Ms Prof Sr Ste Mon Tue Wed Thu Fri
    Hr Hrn Fr Frl Fa Dipl Ing Kfz Mio Mrd Std Str bzw evtl exkl geb ggf inkl vgl zzgl
    Mme Mmes Mlle Mlles MM Me Pr St Sté Cie bd bât
    Sra Srta Sres Dra Dña Ud Uds Profa Lic Avda Av Ltda Cía Sto Sta ej ex
    Sig Sigg Sigra Dott Avv Geom Rag Egr
    Srs Exmo Exma Eng Pça Trav Cia
    Dhr Mevr Mw mw Mej Drs Ir ir Ds fa bijv excl incl
    डॉ रु प्रो श्री ডা মো
"""
ABBREVIATIONS = frozenset(KNOWN.split())
BETWEEN_WORDS = re.compile(r"[\s.,:/(\[\"'’“„«-]+")


def ends_sentence(before: str, closing: str, following: str, language: str) -> bool:
    """Tell whether a sentence ends with `before`, whose last sign is a full stop or the like.

    `closing` is what closes around it (quotes, brackets, markup), and `following` the next letter,
    after a space.
    """
    if is_open(before + closing) or _goes_on(before, closing, following):
        return False
    text = EMPHASIS.sub("", before)
    if text.endswith(".") and _is_abbreviated(text, following):
        return False
    *_, last = sentencex.segment(language, f"{text} N")
    return bool(last == "N")


def is_open(text: str) -> bool:
    """Tell whether a quotation or a bracket in `text` isn't closed."""
    expected: list[str] = []
    for sign in BRACKET.findall(text):
        if sign in expected:
            del expected[expected.index(sign) :]
        elif sign in PAIRS:
            expected.append(PAIRS[sign])
    return bool(expected)


def _goes_on(before: str, closing: str, following: str) -> bool:
    if QUOTES.intersection(closing):
        # "Really?" he asked. Where letters have no case, it can't be known
        return following.isalpha() and not following.isupper()
    return before.endswith((".", "…")) and following.islower()


def _is_abbreviated(text: str, following: str) -> bool:
    if INITIAL_OR_ORDINAL.search(text):
        return True
    if _is_number(following) and BEFORE_NUMBER.search(text):
        return True
    *_, word = BETWEEN_WORDS.split(text.removesuffix("."))
    return word in ABBREVIATIONS or _uncapitalized(word) in ABBREVIATIONS


def _uncapitalized(word: str) -> str:
    return word[:1].lower() + word[1:]


def _is_number(sign: str) -> bool:
    return sign.isdigit() or unicodedata.category(sign) == "Sc"  # a currency's
