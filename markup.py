"""The markup of written replies: what of it is spoken, and what is left out."""

import re

# [text](address "title"), where the address may hold one pair of parentheses
TARGET = r"""\([^()\s]*(?:\([^()\s]*\)[^()\s]*)*(?:\s+"[^"\n]*")?\s*\)"""
LINK = re.compile(rf"!?\[([^\[\]\n]*)\]{TARGET}")

# Where something was found: 【4:0†source】, OpenAI's private-use marks, [^1], [1, 2], [1](address),
# and what its web search puts behind a statement: ([weather.com](address))
SOURCE = rf"\[(?:[\w-]+\.)+\w+\]{TARGET}|\[[^\[\]\n]*\]\([^()\s]*utm_source=openai[^()\s]*\)"
CITATION = re.compile(
    r"\s*(?:"
    r"【[^【】\n]*】"
    r"|\ue200[^\ue200\ue201\n]*\ue201"
    rf"|\(\s*(?:{SOURCE})(?:[,;]?\s*(?:{SOURCE}))*\s*\)"
    r"|\[\^[^\[\]\n]*\]"
    rf"|\[\d+(?:\s*[,–-]\s*\d+)*\](?:{TARGET})?"
    r")"
)

# What is never parted: what stands between brackets, addresses, and what has only begun to be one
BEGUN = r"(?:\[[^\[\]\n]*(?:\]\([^()\s]*)?|【[^【】\n]*|\ue200[^\ue200\ue201\n]*|https?://\S*)\Z"
BRACKETED = r"\[[^\[\]\n]*\]|【[^【】\n]*】|\ue200[^\ue200\ue201\n]*\ue201"
SPAN = rf"{LINK.pattern}|(?P<begun>{BEGUN})|{BRACKETED}|https?://\S*"

# ASCII only: Chinese has no space between an address and the words after it
ADDRESS = r"https?://[!-;=?-~]*[\w/=&#%+~-]"
URL = re.compile(rf"\s*(?:\(\s*{ADDRESS}\s*\)|<{ADDRESS}>|{ADDRESS})")

# `[hangup]`, `[transfer]`, with whatever else stands between the brackets
ACTION = r"\[[^\S\n]*(?P<action>(?i:hang[ _-]?up|transfer))\b[^\[\]\n]*"
CONTROL = ACTION + r"\]"
CUT_OFF = re.compile(ACTION + "$")

# What a line begins with, and lines that are nothing but drawn
LINE = re.compile(
    r"\n\s*(?:"
    r"```[\w+-]*"
    r"|(?:[-*_=|:+]\s*){3,}(?=\n|$)"
    r"|(?:(?:\#{1,6}|[-*+•‣◦>])[^\S\n]+)+(?:\[[ xX]\]\s+)?"
    r")"
)
ROW = re.compile(r"\n\s*\|(.*)")

# A pair of stars is emphasis. Of single ones only those that touch a word are, since a cut between
# sentences may have parted a pair: `5 * 3` and `dial *67` have theirs spoken.
PAIR = re.compile(r"(?<![\w*\\])\*([^\s*](?:[^*\n]*[^\s*\\])?)\*(?![\w*])")
# Each begins with its sign and then looks back over it, which is quicker than looking back first
INLINE = re.compile(
    r"\\([!-/:-@\[-`{-~])"  # an escape: the sign itself is meant
    r"|\*(?<!\d\*)\*+|\*\*+(?!\d)"
    r"|\*(?<![\w*]\*)(?=[^\W\d])"
    r"|\*(?<=[^\W\d]\*)(?!\w)"
    r"|\*(?<=[.!?…,;:)\"”’%]\*)(?!\w)"
    r"|_(?<!\w_)_*(?=\S)"
    r"|_(?<=\S_)_*(?!\w)"
    r"|`"
    r"|~~"
)
CLOSERS = "”’»)]】」』）"

# A text without any of these has no markup
MARKED = re.compile(r"[\\*_`~\[|【\ue200]|://|\n\s*[-=:+#•‣◦>]")
WORD = re.compile(r"[^\W_]")


def plain(text: str) -> str:
    """Return what of `text` is to be spoken, in one line; nothing if no word is in it.

    A line of it begins with its line break: only there is a `#` or a `-` markup.
    """
    if MARKED.search(text):
        text = _without_markup(text)
    text = " ".join(text.split()).lstrip(CLOSERS).lstrip()
    if WORD.search(text):
        return text
    return ""


def _without_markup(text: str) -> str:
    text = CUT_OFF.sub("", text)
    text = CITATION.sub("", text)
    text = LINK.sub(r"\1", text)
    text = URL.sub("", text)
    text = LINE.sub("\n", text)
    text = ROW.sub(_cells, text)
    text = PAIR.sub(r"\1", text)
    text = INLINE.sub(r"\1", text)
    return text.rstrip("\\")


def _cells(row: re.Match[str]) -> str:
    cells = (cell.strip() for cell in row[1].split("|"))
    return "\n" + ", ".join(cell for cell in cells if cell)
