"""How much of a sentence a caller heard, how long one takes, and whether the voice kept to it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils import count_words, heard_part, same_words, speech_ms

CHINESE = "您的车明天下午三点可以取，请带上行驶证和保险单，谢谢您的来电。"
THAI = "รถของคุณพร้อมแล้วที่นี่พรุ่งนี้ครับ"
KHMER = "រថយន្តរបស់អ្នករួចរាល់ហើយនៅថ្ងៃស្អែក"
BURMESE = "မင်္ဂလာပါ ခင်ဗျား"
LAO = "ສະບາຍດີເຈົ້າ"
TIBETAN = "བཀྲ་ཤིས་བདེ་ལེགས"
JAPANESE = "ちょっと、コーヒーを"
HINDI = "आपकी गाड़ी कल दोपहर तीन बजे तैयार होगी"


@pytest.mark.parametrize(
    ("fraction", "heard"),
    [
        (-1, ""),
        (0.0, ""),
        (0.05, ""),
        (0.3, "One"),
        (0.5, "One two"),
        (0.99, "One two six"),
        (1.0, "One two six"),
        (7, "One two six"),
    ],
)
def test_what_was_heard_ends_with_the_nearest_word(fraction: float, heard: str) -> None:
    assert heard_part("One two six", fraction) == heard


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.45, 0.6, 0.9])
@pytest.mark.parametrize("text", [CHINESE, THAI, "お車は明日の午後三時にお渡しできます。"])
def test_what_was_heard_is_right_where_words_have_no_spaces(text: str, fraction: float) -> None:
    assert len(heard_part(text, fraction)) == pytest.approx(fraction * len(text), abs=2)


def test_who_cuts_in_before_the_papers_are_named_has_not_heard_of_them() -> None:
    assert heard_part(CHINESE, 0.45) == "您的车明天下午三点可以取，请"


def test_figures_and_names_stay_whole_among_chinese() -> None:
    text = "我们在2026年开到9:30"
    parts = {heard_part(text, n / 100) for n in range(101)}
    assert parts >= {"我们在", "我们在2026", "我们在2026年开到", text}
    assert not parts & {"我们在2", "我们在20", "我们在202"}


@pytest.mark.parametrize(
    "text",
    [THAI, KHMER, HINDI, "မင်္ဂလာပါ ခင်ဗျား", "ສະບາຍດີເຈົ້າ", "ちょっと、コーヒーを", "བཀྲ་ཤིས་བདེ་ལེགས"],
)
def test_no_sign_is_torn_off_the_letter_it_is_written_on(text: str) -> None:
    for n in range(101):
        heard = heard_part(text, n / 100)
        rest = text[len(heard) :]
        assert not rest or unicodedata.category(rest[0])[0] != "M"
        assert not rest or rest[0] not in "าำะາະょー"
        assert not heard or heard[-1] not in "เแโใไເແໂໃໄ\u17d2\u1039" or not rest


@given(st.text(max_size=60), st.floats(0, 2))
def test_what_was_heard_is_how_the_text_begins(text: str, fraction: float) -> None:
    assert text.startswith(heard_part(text, fraction))


@given(st.text(max_size=60))
def test_all_was_heard_when_all_was_played(text: str) -> None:
    assert heard_part(text, 1).split() == text.split()


@given(st.text(alphabet="ab ,.é-'", max_size=60), st.floats(0, 2))
def test_words_are_heard_whole(text: str, fraction: float) -> None:
    heard = heard_part(text, fraction).split()
    assert text.split()[: len(heard)] == heard


@given(st.text(max_size=60), st.floats(0, 1), st.floats(0, 1))
def test_who_listens_longer_hears_no_less(text: str, once: float, again: float) -> None:
    shorter, longer = sorted((once, again))
    assert len(heard_part(text, shorter)) <= len(heard_part(text, longer))


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("", 1, 1),
        ("Hello, how can I help you today?", 1500, 2500),
        ("您好，请问有什么可以帮您？", 1500, 3000),
        ("안녕하세요 무엇을 도와드릴까요", 1500, 3500),
        ("สวัสดีครับ มีอะไรให้ช่วยไหม", 1200, 2500),
    ],
)
def test_how_long_a_text_takes_is_about_right(text: str, least: float, most: float) -> None:
    assert least <= speech_ms(text) <= most


@given(st.text(max_size=60), st.text(max_size=60))
def test_more_text_takes_no_less_time(text: str, more: str) -> None:
    assert 1 <= speech_ms(text) <= speech_ms(text + more)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("Hello, you!", "hello you"),
        ("It's $4.50.", "it’s $4.50"),
        ("Straße", "STRASSE"),
        ("你好。再见！", "你好 再见"),
        ("Ｒｉｖｅｒｓｉｄｅ", "riverside"),
        ("Cafe\u0301", "Café"),
        ("", "…"),
    ],
)
def test_case_and_punctuation_are_no_drift(asked: str, said: str) -> None:
    assert same_words(asked, said)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("I'm here", "I am here"),
        ("Hello", "Hello there"),
        ("Hello there", "there Hello"),
        ("It is $4.50", "It is $4.60"),
        ("आपकी गाड़ी", "आपका गाड़ी"),
        ("三点", "四点"),
        ("Hello", ""),
    ],
)
def test_another_word_is_drift(asked: str, said: str) -> None:
    assert not same_words(asked, said)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I'd like that, it's fine", 5),
        ("$59.99 at 9:30", 3),
        ("Yes – or no?", 3),
        ("…", 0),
        ("", 0),
        ("नमस्ते दुनिया", 2),
        ("星期四九点", 5),
    ],
)
def test_words_are_counted_as_they_are_written(text: str, words: int) -> None:
    assert count_words(text) == words
