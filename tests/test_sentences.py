"""A reply becomes sentences fit to be spoken, however it is cut into chunks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import utils

REPLY = (
    "## Prices\nDr. Smith charges **$4.50** at 9.30 a.m. on Monday【4:0†source】!"
    " See [our list](https://x.y/z?a=b.c)."
    " Is that all?\n\n1. Oil\n2. *Brakes*\n- `tyres`\n\nMail https://mail.example/now. Bye…"
    " [transfer: +1999] [hang",
    "up]",
)
LINK = "[link](https://x.y/z)"
PIECES = (
    *("Dr. Smith ", "a.m. ", "9.30", "$4.50", "No. 5 ", "e.g. ", "**", "*", "_", "`", "# "),
    *(LINK, "https://www.example.com/a.b", "【4:0†source】", "[1]", " (", ")"),
    *("[hangup]", "[transfer]", "[transfer: +1999]", "[note]", "[", "]", "\n", "\n\n", "- ", "1. "),
    *(
        ". ",
        "! ",
        "? ",
        "… ",
        '." ',
        "。",
        "！",
        "Hello",
        "wörld",
        " and ",
        "it's",
        " ",
        "7",
        "J. ",
    ),
)
replies = st.lists(st.sampled_from(PIECES), max_size=25).map("".join) | st.text(max_size=80)


def spoken(*chunks: str) -> list[str]:
    return list(utils.sentences(chunks))


def cut(text: str, places: list[int]) -> list[str]:
    ends = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(ends)]


@given(replies, st.lists(st.integers(0, 1000), max_size=12))
def test_any_split_into_chunks_gives_the_same_sentences(text: str, places: list[int]) -> None:
    assert spoken(*cut(text, places)) == spoken(text)


@given(replies)
@example("[【4:0†source】7] or [1](https://x.y/z)")
def test_one_letter_at_a_time_gives_the_same_sentences(text: str) -> None:
    assert spoken(*text) == spoken(text)


@given(replies)
@example("](0")
def test_what_is_spoken_has_words_and_no_markup(text: str) -> None:
    for sentence in spoken(text):
        if sentence not in ("[hangup]", "[transfer]"):
            assert sentence == " ".join(sentence.split())
            assert any(letter.isalnum() or letter == "_" for letter in sentence)
            assert "hangup]" not in sentence or "[hangup]" not in text
            for markup in ("**", "`", "【4:0†source】", "https://x.y"):
                assert markup not in sentence
            assert "](" not in sentence or "](" in text.replace(LINK, "")


def test_markup_links_and_citations_are_left_out() -> None:
    assert spoken(*REPLY) == [
        "Prices",
        "Dr. Smith charges $4.50 at 9.30 a.m. on Monday!",
        "See our list.",
        "Is that all?",
        "1. Oil",
        "2. Brakes",
        "tyres",
        "Mail.",
        "Bye…",
        "[transfer]",
        "[hangup]",
    ]


@pytest.mark.parametrize(
    "sentence",
    [
        "We open at 9.30 and close at 5.30.",
        "We open at 9 a.m. on Monday.",
        "Dr. Smith and Mrs. Jones are in.",
        "It costs $4.50 per litre.",
        "Ask for J. Miller.",
        "That is No. 5 of seven, e.g. the blue one.",
        "It's 20 °C, or 68 °F!",
        "Version 2.0.1 is out?",
        "Use snake_case here.",
        "Visit example.com today.",
    ],
)
def test_stays_whole(sentence: str) -> None:
    assert spoken(sentence) == [sentence]
    assert spoken(f"{sentence} And more.") == [sentence, "And more."]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four… Five", ["One.", "Two!", "Three?", "Four…", "Five"]),
        ("你好。再见！", ["你好。", "再见！"]),
        ("9. Oil\n10. Brakes", ["9. Oil", "10. Brakes"]),
        ("Two ATMs. He revs. Done.", ["Two ATMs.", "He revs.", "Done."]),
        ("First line\nSecond line", ["First line", "Second line"]),
        ("", []),
        (" \n\n ** ** \n --- \n", []),
        ("![logo](https://x.y/logo.png) Welcome.", ["logo Welcome."]),
        ("Bye. [HANGUP]", ["Bye.", "[hangup]"]),
        ("[ Transfer: +1 999 ]", ["[transfer]"]),
        ("[hangup]", ["[hangup]"]),
        ("Bye[hangup].", ["Bye.", "[hangup]"]),
        ("Please [hang on].", ["Please [hang on]."]),
        ("It is so.[1][2] We [3] know.[4]\nYes", ["It is so.", "We know.", "Yes"]),
    ],
)
def test_sentence_ends(text: str, expected: list[str]) -> None:
    assert spoken(text) == expected


def test_a_quotation_ends_a_sentence() -> None:
    first, second = spoken('He said "yes." Then he left.')
    assert utils.same_words(first, "He said yes")
    assert second == "Then he left."


@pytest.mark.parametrize(
    "link", ["(see https://x.y/z)", "[x](https://x.y/a_(b))", "<https://x.y>."]
)
def test_no_address_is_read_out(link: str) -> None:
    assert "x.y" not in " ".join(spoken(f"Well, {link} it is."))


def test_a_sentence_is_out_as_soon_as_it_is_complete() -> None:
    pulled: list[str] = []

    def chunks() -> Iterator[str]:
        for chunk in ("First ", "is this. ", "Second", " is", " that."):
            pulled.append(chunk)
            yield chunk

    sentences = utils.sentences(chunks())
    assert next(sentences) == "First is this."
    assert pulled == ["First ", "is this. "]


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [
        (0.0, ""),
        (0.05, ""),
        (0.3, "One"),
        (0.5, "One two"),
        (0.99, "One two six"),
        (7, "One two six"),
    ],
)
def test_the_heard_part_ends_with_the_nearest_word(fraction: float, expected: str) -> None:
    assert utils.heard_part("One two six", fraction) == expected


@given(st.text(max_size=60), st.floats(0, 2))
def test_the_heard_part_is_the_beginning_in_whole_words(text: str, fraction: float) -> None:
    heard = utils.heard_part(text, fraction)
    assert text.startswith(heard)
    assert text.split()[: len(heard.split())] == heard.split()


@pytest.mark.parametrize(
    ("asked", "said", "same"),
    [
        ("Hello, you!", "hello you", True),
        ("It's $4.50.", "it's $4.50", True),
        ("I'm here", "I am here", False),
        ("Hello", "Hello there", False),
    ],
)
def test_drift_is_a_matter_of_words(asked: str, said: str, same: bool) -> None:
    assert utils.same_words(asked, said) is same
