"""Where a sentence ends: a false end is heard, a missed one costs a little time."""

import re
import unicodedata

import sentencex  # type: ignore[import-untyped]

# A quotation or a bracket that is open keeps a sentence from ending; some close in two ways
PAIRS = {"(": ")", "[": "]", "（": "）", "【": "】", "\ue200": "\ue201"}
PAIRS |= {"“": "”", "„": "“”", "«": "»", "»": "«»", "「": "」", "『": "』"}
OPENING = re.escape("".join(PAIRS))
CLOSING = re.escape("".join(PAIRS.values()))
# A straight quotation mark opens nothing behind a letter or digit (24" wheels), and between two it
# is none at all: so Hebrew abbreviates
STRAIGHT = '"'
BRACKET = re.compile(rf'(?P<opening>[{OPENING}]|(?<!\w)")|[{CLOSING}]|"(?!\w)')
EMPHASIS = re.compile(r"[*_`~\\]+")
QUOTES = frozenset("\"'”’“«»)」』")

# These end a sentence wherever they stand
CERTAIN = "।॥؟።။។"
# An initial, or a letter of an abbreviation, ends no sentence: "J.", "a.m.", "z. B."
INITIAL = re.compile(r"(?<![\w\"״])[a-zA-ZÀ-ۿ]\.$")
# Nor does the number of an item: "three things: 1. Oil", "Step 1. Open it"
NUMBER = re.compile(r"(?<![\w.,:$€£])(\d\d?)\.$")
BEFORE_ITEM = re.compile(r"(?:(?:^|[.!?…]\s)\s*\w+\s|^|[,;:()–—、，；：（-])\s*$")
BEFORE_FIRST_ITEM = re.compile(r"[.!?…。！？]\s*$")
# Nor does the number of a day, in languages that write it so: "Am 3. Mai". In a reply that is in
# another language than the session's, the word before it tells.
WITH_ORDINALS = "bs cs da de et eu fi fo hr hu is lb lv nb nn no pl sk sl sr tr"
ORDINALS = frozenset(WITH_ORDINALS.split())
BEFORE_ORDINAL = re.compile(r"\b(?:am|im|vom|zum|beim|der|die|den|dem|bis|ab|seit)\s+$", re.I)
# Nor does a short word before a number: "approx. 45", "Art. 5", "Hauptstr. 12"
BEFORE_NUMBER = re.compile(r"(?<!\w)(?:[^\W\d_]{1,6}|\w*str)\.$")
# Nor do these, whatever the language: sentencex knows more of them, but only in their own
KNOWN = """
    approx Apt Attn Atty Ave Blvd Cpt Dept Dr Ft Inc Jr LLC Ln Ltd Messrs Mgr Mr Mrs Ms Mx Pkwy Prof
    Sq Sr Ste Mon Tue Tues Wed Thu Thur Thurs Fri Sat Sun
    Hr Hrn Fr Frl Fam Fa Dipl Ing Kfz Lkw Pkw Mio Mrd Tsd Std Sek Str Abt Bsp Hbf Inh Okt Dez Whg
    allg bes betr bspw bzw dt engl evtl exkl franz geb gepr gest ggf inkl nachm tägl Tel tel
    usw verh vgl vorm wg zus zzgl
    Mme Mmes Mlle Mlles MM Me Mes Pr St Sté Cie bd bât Cdt Gal Vve appt dép réf
    Sra Sras Srta Sres Dra Dres Dña Ud Uds Profa Lic Arq Avda Av Ltda Cía Sto Sta Cnel Tte Mons Ilmo
    Ctra Pl aprox ej ex izda máx mín núm pág
    Sig Sigg Sigra Dott ssa lli zza Avv Geom Rag Egr Spett
    Srs Exmo Exma Eng Pça Trav Cia Rod apto
    Dhr Mevr Mw mw Mej Drs Ir ir Ds ds Past Burg fa bijv excl incl
    mgr inż ks św os al godz płk kpt Bpk Sdr Sn Cad Sok Mah
    др доц им инж корп напр обл пл
    κκ κος καθ Αγ οδ τηλ αρ Λεωφ Πλ δηλ
    डॉ रु प्रो श्री श्रीमती पं कु মো ডা ড ইঞ্জি
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
    if text.endswith(tuple(CERTAIN)):
        return True
    if text.endswith(".") and _is_abbreviated(text, following, language):
        return False
    *_, last = sentencex.segment(language, f"{text} N")
    return bool(last == "N")


def is_open(text: str) -> bool:
    """Tell whether a quotation or a bracket in `text` isn't closed."""
    expected: list[str] = []
    for sign in BRACKET.finditer(text):
        closed = [place for place, closers in enumerate(expected) if sign[0] in closers]
        if closed:
            del expected[closed[0] :]
        elif sign["opening"]:
            expected.append(PAIRS.get(sign[0], STRAIGHT))
    return bool(expected)


def _goes_on(before: str, closing: str, following: str) -> bool:
    if QUOTES.intersection(closing):
        # "Really?" he asked. Where letters have no case, it can't be known
        return following.isalpha() and not following.isupper()
    return before.endswith((".", "…")) and following.islower()


def _is_abbreviated(text: str, following: str, language: str) -> bool:
    if INITIAL.search(text) or _is_numbered(text, language):
        return True
    if _is_number(following) and BEFORE_NUMBER.search(text):
        return True
    *_, word = BETWEEN_WORDS.split(text.removesuffix("."))
    return word in ABBREVIATIONS or _uncapitalized(word) in ABBREVIATIONS


def _is_numbered(text: str, language: str) -> bool:
    """Tell whether `text` ends with the number of a day or an item, and not with a mere number."""
    number = NUMBER.search(text)
    if number is None:
        return False
    before = text[: number.start()]
    if language in ORDINALS or BEFORE_ORDINAL.search(before):
        return True
    return _is_item(int(number[1]), before)


def _is_item(number: int, before: str) -> bool:
    """Tell whether a number is that of an item in a list."""
    if BEFORE_ITEM.search(before):
        return True
    if number == 1:
        return bool(BEFORE_FIRST_ITEM.search(before))
    return bool(re.search(rf"(?<!\d){number - 1}[.)]\s", before))


def _uncapitalized(word: str) -> str:
    return word[:1].lower() + word[1:]


def _is_number(sign: str) -> bool:
    return sign.isdigit() or unicodedata.category(sign) == "Sc"  # a currency's
