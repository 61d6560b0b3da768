"""The markup of written replies: what of it is spoken, and what is left out."""

import html
import re

# [text](address "title"), where the address may hold parentheses, and the text an image
FLAT = r"[^()\s]*"
DEEP = rf"{FLAT}(?:\({FLAT}(?:\({FLAT}\){FLAT})*\){FLAT})*"
TITLE = r"""\s+(?:"[^"\n]*"|'[^'\n]*')"""
TARGET = rf"\((?:<[^<>\n]*>|{DEEP})(?:{TITLE})?\s*\)"
LINK = re.compile(rf"!?\[((?:[^\[\]\n]|\[[^\[\]\n]*\])*)\]{TARGET}")
# [text][name], and the lines that tell what is behind a name or a footnote
REFERENCE = re.compile(r"\[(?!\d+\]|\^)([^\[\]\n]+)\]\[[^\[\]\n]*\]")
DEFINITION = re.compile(r"\n\s*\[(?:\^[^\[\]\n]+\]:|[^\[\]\n]+\]:[^\S\n]*<?https?://[^\n]*)")

# Where something was found: 【4:0†source】, OpenAI's private-use marks, [^1], [1, 2], [1](address),
# and what its web search puts behind a statement: ([weather.com](address))
SOURCE = rf"\[(?:[\w-]+\.)+\w+\]{TARGET}|\[[^\[\]\n]*\]\([^()\s]*utm_source=openai[^()\s]*\)"
CITATION = re.compile(
    r"\s*(?:"
    r"【[^【】\n]*】"
    r"|\ue200[^\ue200\ue201\n]*\ue201"
    rf"|\(\s*(?:{SOURCE})(?:[,;]?\s*(?:{SOURCE}))*\s*\)"
    r"|\[\^[^\[\]\n]*\]"
    rf"|\[\d{{1,2}}(?:\s*[,–-]\s*\d{{1,2}})*\](?:{TARGET})?"
    r")"
)

# What is never parted: what stands between brackets, addresses, and what has only begun to be one
BEGUN = (
    r"(?:\[[^\[\]\n]*(?:\]\([^()\s]*)?|【[^【】\n]*|\ue200[^\ue200\ue201\n]*"
    r"|https?://\S*|<[a-zA-Z/!][^<>\n]*)\Z"
)
BRACKETED = r"\[[^\[\]\n]*\]|【[^【】\n]*】|\ue200[^\ue200\ue201\n]*\ue201|<[a-zA-Z/!][^<>\n]*>"
SPAN = rf"{LINK.pattern}|(?P<begun>{BEGUN})|{BRACKETED}|https?://\S*"

# ASCII only: Chinese has no space between an address and the words after it
SIGN = r"[!-'*-;=?-~]"
ASIDE = rf"\({SIGN}*\)"
ADDRESS = rf"https?://(?:{SIGN}|{ASIDE})*(?:[\w/=&#%+~-]|{ASIDE})"
URL = re.compile(rf"\s*(?:\(\s*{ADDRESS}\s*\)|<{ADDRESS}>|{ADDRESS})")

# HTML: what parts words, what doesn't, and letters by their names; other angle brackets stay
BLOCK = re.compile(r"<(?:br|/?(?:p|div|h[1-6r]|[ou]l|li|table|t[rdh]))\b[^<>\n]*>", re.IGNORECASE)
TAG = re.compile(
    r"</?(?:a|b|i|u|s|em|strong|code|pre|span|su[bp]|small|mark|del|img|details|summary)\b[^<>\n]*>"
    r"|<!--[^<>\n]*-->",
    re.IGNORECASE,
)
ENTITY = re.compile(r"&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z]\w{1,30});", re.IGNORECASE)

# `[hangup]`, `[transfer]`, with whatever else stands between the brackets
ACTION = r"\[[^\S\n]*(?P<action>(?i:hang[ _-]?up|transfer))\b[^\[\]\n]*"
CONTROL = ACTION + r"\]"
CUT_OFF = re.compile(ACTION + "$")

# What a line begins with, and lines that are nothing but drawn
LINE = re.compile(
    r"\n\s*(?:"
    r"(?:[-*_=|:+]\s*){3,}(?=\n|$)"
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
    r"|```[\w+-]*[^\S\n]*(?=\n|$)"
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
MARKED = re.compile(r"[\\*_`~\[|【\ue200<&]|://|\n\s*[-=:+#•‣◦>]")
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
    for pattern, replacement in REPLACED:
        text = pattern.sub(replacement, text)
    return text.rstrip("\\")


def _linked(link: re.Match[str]) -> str:
    image = LINK.sub(r"\1", link[1])
    return re.sub(r"[\[\]]", "", image)


def _letter(entity: re.Match[str]) -> str:
    return html.unescape(entity[0])


def _cells(row: re.Match[str]) -> str:
    cells = (cell.strip() for cell in row[1].split("|"))
    return "\n" + ", ".join(cell for cell in cells if cell)


# What is found, and what is said instead, in this order
REPLACED = (
    (CUT_OFF, ""),
    (DEFINITION, "\n"),
    (REFERENCE, r"\1"),
    (CITATION, ""),
    (LINK, _linked),
    (BLOCK, " "),
    (TAG, ""),
    (URL, ""),
    (LINE, "\n"),
    (ROW, _cells),
    (PAIR, r"\1"),
    (INLINE, r"\1"),
    (ENTITY, _letter),
)
