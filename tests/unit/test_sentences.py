"""A reply becomes sentences as a person would read them, however it is cut into chunks."""

from __future__ import annotations

import itertools
import time
import unicodedata
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from utils import sentences

MORE = {
    "en": "Anything else I can do for you?",
    "de": "Kann ich sonst noch etwas tun?",
    "fr": "Voulez-vous autre chose ?",
    "es": "¿Puedo ayudarle en algo más?",
    "it": "Posso aiutarla in qualcos'altro?",
    "pt": "Posso ajudar em mais alguma coisa?",
    "nl": "Kan ik u nog ergens mee helpen?",
    "pl": "Czy mogę jeszcze w czymś pomóc?",
    "ru": "Могу ли я ещё чем-то помочь?",
    "el": "Θέλετε κάτι άλλο σήμερα;",
    "hi": "क्या मैं और कुछ कर सकता हूँ?",
    "bn": "আমি কি আর কিছু করতে পারি?",
    "ar": "هل يمكنني مساعدتك في شيء آخر؟",
}
WHOLE = {
    "en": """
        We open at 9.30 and close at 5.30.
        We open at 9 a.m. on Monday.
        We open at 9 a.m. Monday to Friday.
        At 5 p.m. Pacific time we close.
        Dr. Smith and Mrs. Jones are in.
        Prof. Brown, Ph.D. teaches it.
        Ask for J. R. Miller at the desk.
        Ask Messrs. Hill and Mme. Roux.
        Gen. Lee and Lt. Col. Ray were here.
        Smith Inc. is open today.
        Smith & Sons Ltd. Is open today.
        It takes approx. 45 minutes.
        It costs approx. $45 in all.
        It costs max. $45 in all.
        Oil, brakes, etc. are included.
        That is No. 5 of seven, e.g. the blue one.
        See Fig. 5 and pp. 3 to 7 there.
        Call ext. 204 for parts.
        Jan. 5, Feb. 6 and Sept. 7 are free.
        Come on Mon. Jan. 5 at noon.
        The U.S. Embassy is on Main St. next door.
        It weighs 5 lbs. and is 3 ft. long.
        Version 2.0.1 is out now.
        It's 20 °C, or 68 °F!
        Use snake_case here.
        Visit example.com today.
        You can book at www.riverside-auto.com.
        We do three things: 1. Oil. 2. Brakes. 3. Tyres.
        You need 1. an ID, 2. a card and 3. money.
        We do 2 things: 1. Oil, 2. Brakes, and 3. Tyres.
        Step 1. Open the hood of the car.
        Come on Tues. Jan. 5 or Sat. Jan. 9 at noon.
        He said "yes. No. Maybe." and left.
        The shop (it opens at 9. Call first.) is near.
        "Really?" he asked.
    """,
    "de": """
        Am 3. Mai um 10 Uhr.
        Am 24. Dezember ist zu.
        Der 2. Termin wäre bzw. Montag.
        Wir haben z. B. morgen Zeit.
        Wir haben z.B. Montag Zeit.
        Um 10 Uhr, d. h. Morgen früh.
        Das ist i. d. R. Montag.
        Das kostet ca. 45 Euro.
        Herr Dr. Müller und Fr. Meier sind da.
        Prof. Dr. med. Schmidt ist da.
        Dipl.-Ing. Weber ist da.
        Die Nr. 5 in der Hauptstr. 12 ist frei.
        Inkl. MwSt. Sind es 40 Euro.
        Das dauert mind. 3 Std. Arbeit.
        Ölwechsel, Bremsen usw. sind dabei.
        Die Fa. Bosch u. a. Firmen sind da.
        Im 1. Stock, Zi. 12 rechts.
        Wir öffnen am 24. Dezember und am 2. Januar.
        Fragen Sie die Abt. Service nach dem tägl. Angebot.
        Das ist bspw. Montag oder Di. Abend.
        Er sagte: „Ja. Gern.“ und ging.
        Er sagte: »Ja. Gern.« und ging.
    """,
    "fr": """
        C'est Mme. Martin qui vous attend.
        M. Dupont est arrivé ce matin.
        MM. Durand et Petit sont là.
        Mlle. Blanc et Me. Noir viennent.
        Le Dr. Roche et le Pr. Weil sont là.
        C'est env. 45 euros en tout.
        Huile, freins, etc. sont compris.
        Au 5 av. Foch, bd. Voltaire.
        Voir p. 5 et art. 12 du contrat.
        La Sté. Générale et Cie. Paribas.
        Le Cdt. Roux et la Vve. Petit arrivent.
        Il a dit « Oui. Bien sûr. » et il est parti.
    """,
    "es": """
        El Sr. García está aquí.
        La Sra. López y la Srta. Ruiz vienen.
        El Dr. Pérez y la Dra. Gil están.
        Ud. puede venir mañana.
        Cuesta aprox. 45 euros.
        Aceite, frenos, etc. están incluidos.
        Está en la Avda. Libertad núm. 5 hoy.
        Los EE. UU. Son grandes.
        P. ej. Mañana por la tarde.
        D. Juan y Dña. Ana vienen.
        Las Sras. Gil y el Tte. Mora vienen.
        A las 5 p. m. Mañana cerramos.
    """,
    "it": """
        Il Sig. Rossi è qui.
        La Sig.ra Bianchi e i Sigg. Verdi.
        Il Dott. Neri e la Dott.ssa Gallo.
        L'Avv. Conti e l'Ing. Riva sono qui.
        Costa ca. 45 euro.
        Olio, freni, ecc. sono inclusi.
        Ad es. Domani mattina va bene.
        La Dott.ssa Gallo e la Prof.ssa Riva sono qui.
        Siamo in p.zza Garibaldi, da F.lli Verdi.
    """,
    "pt": """
        O Sr. Silva está aqui.
        A Sra. Costa e a Srta. Lima vêm.
        Custa aprox. 45 reais.
        Na Av. Paulista, n. 5 ao lado.
        O Prof. Melo e a Profa. Dias.
        Lima & Cia. Abre hoje às dez.
        O Exmo. Senhor Juiz chegou.
    """,
    "nl": """
        Dhr. De Vries is er nu.
        Mevr. Jansen en mw. Bakker zijn er.
        Dr. Smit en drs. Visser zijn er.
        Het kost ca. 45 euro.
        Bijv. Morgenochtend kan het.
        O.a. Maandag zijn we open.
        Nr. 5 aan de Hoofdstr. 12 is vrij.
    """,
    "pl": """
        Koszt to ok. 45 zł u p. Nowaka, tj. tanio.
        Pyta mgr Kowal i inż. Nowak z os. Zielone.
        Powiedział: „Tak. Dobrze.” i poszedł.
        Czynne od 3. Maja o 10 rano.
    """,
    "ru": """
        Мы на ул. Ленина в г. Москва.
        Это школа им. Пушкина, др. Иванов здесь.
    """,
    "el": """
        Ο κ. Παπαδόπουλος είναι εδώ.
        Οι κκ. Νίκου και Αλεξίου στην οδ. Ερμού.
    """,
    "hi": "आपको डॉ. शर्मा से मिलना है।",
    "bn": "আপনি ডা. করিমের কাছে যান।",
    "ar": "موعدك مع د. أحمد غدا.",
}
ROWS = [
    (language, row.strip()) for language, rows in WHOLE.items() for row in rows.strip().splitlines()
]

LINK = "[How much, and when? | Riverside](https://riverside.example/faq)"
SEARCHED = "([weather.com](https://weather.com/a?utm_source=openai))"
PIECES = (
    *("Dr. Smith ", "a.m. ", "9.30", "$4.50 ", "No. 5 ", "e.g. ", "z. B. ", "Am 3. Mai ", "etc. "),
    *("**", "*", "_", "`", "# ", "- ", "1. ", "~~", "|", "\\_", "\n| a | b |\n", "---", "```"),
    *(
        "<br>",
        "<b>",
        "</p>",
        "<a href='x. y'>",
        "&amp;",
        "&quot;",
        "&",
        "<",
        "\n[1]: https://x.y\n",
    ),
    *(
        "[x][y]",
        "[![x](y)](z)",
        "[a](b(c(d)))",
        "(https://x.y/a_(b))",
        '24" ',
        'ד"ר ',
        "」",
        "»",
        "។",
    ),
    *(LINK, SEARCHED, "https://www.example.com/a.b", "<https://a.b>", "[a, b. c](https://x.y/z)"),
    *("【4:0†source】", "\ue200cite\ue202turn0\ue201", "[^1]", "[1]", "[1, 2]", "【", "[", "]"),
    *(
        "[hangup]",
        "[transfer]",
        "[transfer: +1999. Now]",
        "[Transfer it](https://x.y/z)",
        "[HANG UP]",
        " [hang",
        "up]",
        "[note. Yes]",
    ),
    *(". ", "! ", "? ", "… ", '." ', ".", "。", "！", "？", "؟ ", "। ", "۔ ", "; ", ", ", "，"),
    *(" (", ")", "「", "」", "“", "”", "„", "« ", " »", '"', "'", "\n", "\n\n", " ", "7"),
    *("Hello", "wörld", " and ", "it's", "Sure. ", "J. ", "I can't help with that. ", "OK. "),
    *("你好", "はい", "नमस्ते", "مرحبا", "สวัสดี", "Привет", "안녕", "ہیں", "আমি"),
    *("A sentence that goes on and on, and then goes on some more ", "word " * 30, "x" * 190),
)
replies = st.lists(st.sampled_from(PIECES), max_size=25).map("".join) | st.text(max_size=80)
languages = st.sampled_from(["en", "de", "fr", "es", "it", "pt-BR", "nl", "hi", "ar", "zh", "xx"])


def spoken(text: str, language: str = "en") -> list[str]:
    return list(sentences([text], language))


def cut(text: str, places: list[int]) -> list[str]:
    ends = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(ends)]


def letters_before_the_first(text: str) -> int:
    """Return how many letters of a reply had come when its first sentence was out."""
    pulled = itertools.count()
    list(itertools.islice(sentences(letter for letter in text if next(pulled) >= 0), 1))
    return next(pulled)


# --- the same cut, however it comes -----------------------------------------------------------


@given(replies, languages, st.lists(st.integers(0, 1000), max_size=12))
def test_any_split_into_chunks_gives_the_same_sentences(
    text: str, language: str, places: list[int]
) -> None:
    assert list(sentences(cut(text, places), language)) == spoken(text, language)


@given(replies, languages)
@example("[【4:0†source】7] or [1](https://x.y/z)", "en")
@example("It is sunny today. ([weather.com](https://w.com/a?utm_source=openai)) Take care.", "en")
@example("See [How much is it? | Riverside](https://riverside.example/faq) for that.", "en")
@example("Il a dit « Oui. » Puis « Non. » Il est parti.", "fr")
@example("I connect you. [transfer: +1555. Desk] Bye.", "en")
def test_one_letter_at_a_time_gives_the_same_sentences(text: str, language: str) -> None:
    assert list(sentences(text, language)) == spoken(text, language)


@given(replies)
@example("](0")
def test_what_is_spoken_has_words_and_no_markup(text: str) -> None:
    for sentence in spoken(text):
        assert sentence == " ".join(sentence.split())
        assert any(letter.isalnum() for letter in sentence)
        for markup in ("【4:0†source】", "\ue200cite", "utm_source", "riverside.example"):
            assert markup not in sentence


@given(st.text(alphabet="abc ABC.,!?é你好。\n", max_size=300))
def test_no_letter_is_lost_and_none_is_added(text: str) -> None:
    assert "".join(filter(str.isalnum, "".join(spoken(text)))) == "".join(filter(str.isalnum, text))


# --- where sentences end ----------------------------------------------------------------------


@pytest.mark.parametrize(("language", "sentence"), ROWS)
def test_a_full_stop_inside_a_sentence_ends_none(language: str, sentence: str) -> None:
    assert spoken(sentence, language) == [sentence]
    assert spoken(f"{sentence} {MORE[language]}", language) == [sentence, MORE[language]]


@pytest.mark.parametrize(
    "sentence",
    [
        "Am 3. Mai um 10 Uhr.",
        "Wir haben z. B. morgen Zeit.",
        "El Sr. García está aquí.",
        "C'est Mme. Martin qui vous attend.",
        "Mevr. Jansen is er nu.",
    ],
)
def test_a_guest_from_abroad_is_understood_in_an_english_session(sentence: str) -> None:
    assert spoken(f"{sentence} {MORE['en']}") == [sentence, MORE["en"]]


@pytest.mark.parametrize(
    "text",
    [
        "I have two ATMs for you.| He revs his engine.",
        "He said “yes” to all of it.| Then he left us.",
        'He said "yes to all of it."| Then he left us.',
        "Is that what you want?! | Then let us do it.",
        "Well, let me think about it...| It can be done.",
        "We are open on **Monday.**| Do you have time?",
        "It was so last winter.[1][2]| We know that well.",
        "आपकी गाड़ी तैयार है आज।| आप कब आ सकते हैं।",
        "আপনার গাড়ি আজ প্রস্তুত আছে।| আপনি কখন আসবেন।",
        "आपकी गाड़ी तैयार है आज।|आप कब आ सकते हैं।",
        "ဘာကူညီပေးရမလဲ ပြောပါ။|ကျေးဇူးတင်ပါတယ် ခင်ဗျား။",
        "តើខ្ញុំអាចជួយអ្វីបានទេ។| អរគុណច្រើនណាស់ លោក។",
        "آپ کی گاڑی آج تیار ہے۔| آپ کب آ سکتے ہیں؟",
        "هل تريد أن تأتي غدا صباحا؟| نحن نفتح في التاسعة.",
        "هل تريد أن تأتي غدا صباحا؟|نحن نفتح في التاسعة.",
        'ד"ר כהן נמצא כאן היום כולו.| הוא יחזור אליך מחר בבוקר.',
        'הרכב שלך עולה היום 50 ש"ח.| האם זה בסדר מבחינתך?',
        "Er sagte dazu nur: »Ja.«| Dann ging er nach Hause.",
        "Powiedział po prostu: „Tak.”| Potem poszedł do domu.",
        "It is 5'10\" tall, and heavy.| That is big for a car.",
        'The new 24" wheels are here.| Do you want them today?',
        "您的车明天下午可以取。| 请带上您的行驶证。",
        "お車は明日お渡しできます。| 何時がよろしいですか？",
        "彼は「はい。」と私に言いました。| そして帰りました。",
        "他说：“好的。没问题。”然后就走了。| 请您稍等一下。",
        "Ваша машина готова сегодня.| Когда вы приедете?",
        "Η ώρα σας είναι στις δέκα;| Σας περιμένουμε.",
    ],
)
def test_sentences_are_said_one_by_one(text: str) -> None:
    language = "el" if "Σας" in text else "en"
    expected = [part.strip().replace("**", "").replace("[1][2]", "") for part in text.split("|")]
    assert spoken(text.replace("|", ""), language) == expected


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "We open at 9.| Come by any time."),
        ("en", "That is in 45.| Then you wait for it."),
        ("en", "You are at No. 9.| We are at No. 12."),
        ("en", "Sure. We close at 1.| See you then."),
        ("es", "Abrimos a las 9.| Venga cuando quiera."),
        ("fr", "Nous ouvrons à 9.| Venez nous voir."),
        ("it", "Apriamo alle 10.| Venga quando vuole."),
        ("pt-BR", "Abrimos às 9.| Venha quando quiser."),
        ("nl", "We openen om 9.| Kom gerust een keer langs."),
        ("ru", "Мы открываемся в 9.| Приходите к нам."),
        ("xx", "We open at 9.| Come by any time."),
    ],
)
def test_a_mere_number_ends_a_sentence(language: str, text: str) -> None:
    expected = [part.strip() for part in text.split("|")]
    assert spoken(text.replace("|", ""), language) == expected


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "1. Oil. 2. Brakes."),
        ("en", "Sure. 1. Oil. 2. Brakes."),
        ("en", "We do: 1. Oil, 2. Brakes and 3. Tyres."),
        ("en", "Der 3. Mai, im 2. Stock."),
        ("en", "Sure. Option 2. Now."),
        ("es", "Paso 1. Abra el capó."),
        ("zh", "价格是：1. 机油，2. 刹车。"),
        ("cs", "Dne 3. Května je zavřeno."),
        ("da", "Det er 3. Juledag i dag."),
        ("tr", "Biz 3. Cadde üzerindeyiz."),
    ],
)
def test_the_number_of_an_item_or_a_day_ends_none(language: str, text: str) -> None:
    assert spoken(text, language) == [text]


@pytest.mark.parametrize(
    "text",
    [
        "\u200fمرحبا بك في خدمتنا.\u200f كيف حالك اليوم يا صديقي؟\u200f",
        "We open\u200b at nine.\u200b Come by any\u00ad time.",
        "\ufeffWe open at nine.\u2060 Come by any time.\ufffd",
        "We open at\0 nine.\u200e\u202a Come by any time.\u202c",
    ],
    ids=ascii,
)
def test_what_cannot_be_heard_hides_no_end(text: str) -> None:
    first, second = spoken(text)
    assert first.endswith(".")
    assert not set(first + second) & set("\u200f\u200b\u00ad\ufeff\u2060\ufffd\0\u200e\u202a\u202c")


@pytest.mark.parametrize("language", ["", "xx", "en-GB", "DE_at", "zh-Hans-CN", "-", "qqq"])
def test_any_language_does(language: str) -> None:
    text = "Thank you for calling us. How can I help you?"
    assert spoken(text, language) == ["Thank you for calling us.", "How can I help you?"]


@pytest.mark.parametrize("language", ["de", "de-AT", "DE_ch"])
def test_the_region_of_a_language_makes_no_difference(language: str) -> None:
    text = "Wir machen Öl usw. Montag geht es."
    assert spoken(text, language) == [text]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("First line\nSecond line", ["First line", "Second line"]),
        ("9. Oil\n10. Brakes", ["9. Oil", "10. Brakes"]),
        ("## Prices\nOil is $40.", ["Prices", "Oil is $40."]),
        ("We do:\r\n- Oil\r\n- Brakes", ["We do:", "Oil", "Brakes"]),
    ],
)
def test_a_line_is_a_sentence(text: str, expected: list[str]) -> None:
    assert spoken(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\n ** ** \n --- \n",
        "【4:0†source】",
        "?!",
        "```\n```",
        "|---|---|",
        "👍",
        "[^1]",
        "*",
    ],
)
def test_a_reply_without_a_word_is_not_said(text: str) -> None:
    assert spoken(text) == []


# --- not too short, not too long, not too late ------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sure. Yes. OK.", ["Sure. Yes. OK."]),
        ("Yes.\nNo.\nMaybe.", ["Yes. No. Maybe."]),
        (
            "Let me look that up for you. Yes. Yes. Ten is free.",
            ["Let me look that up for you.", "Yes. Yes. Ten is free."],
        ),
        ("请您稍等一下，我看看。好。有。", ["请您稍等一下，我看看。", "好。有。"]),
    ],
)
def test_very_short_sentences_are_said_together(text: str, expected: list[str]) -> None:
    assert spoken(text) == expected


@pytest.mark.parametrize(
    ("text", "at_most"),
    [
        (
            "Sure. Let me look up for you when we have time next week.",
            len("Sure. Let me look up for "),
        ),
        ("Good morning! How may I help you today, and who is it?", len("Good morning! H")),
        ("Good morning!\nHow may I help you today?", len("Good morning!\n")),
        ("您好。请问有什么可以帮您？", len("您好。请问")),
        ("नमस्ते। आप कैसे हैं। धन्यवाद।", len("नमस्ते। आ")),
        ("Hello\nHow may I help you today?", len("Hello\n")),
    ],
)
def test_the_first_words_come_early(text: str, at_most: int) -> None:
    assert letters_before_the_first(text) <= at_most


def test_a_sentence_is_out_as_soon_as_the_next_word_begins() -> None:
    pulled: list[str] = []

    def chunks() -> Iterator[str]:
        for chunk in ("First ", "is this. ", "Second", " is", " that."):
            pulled.append(chunk)
            yield chunk

    assert next(sentences(chunks())) == "First is this."
    assert pulled == ["First ", "is this. ", "Second"]


def test_a_long_sentence_is_cut_at_a_comma() -> None:
    part = "and when that is done we look at the brakes, "
    cut_up = spoken("First we change the oil, " + part * 20)
    assert all(sentence.endswith(",") for sentence in cut_up)
    assert all(100 < len(sentence) <= 200 for sentence in cut_up[:-1])
    assert " ".join(cut_up) == "First we change the oil, " + part.strip() + f" {part.strip()}" * 19


def test_a_long_sentence_without_a_comma_is_cut_between_words() -> None:
    cut_up = spoken("nevertheless " * 100)
    assert {word for sentence in cut_up for word in sentence.split()} == {"nevertheless"}
    assert max(map(len, cut_up)) <= 200


def test_a_comma_after_the_first_word_is_no_place_to_cut() -> None:
    assert len(spoken("Well, " + "nevertheless " * 30)[0]) > 150


@pytest.mark.parametrize("text", ["ยาว" * 200, "មន្តស្ន" * 100, "きゃー" * 200, "ยี่ห้อ" * 100])
def test_a_long_text_without_spaces_is_cut_between_letters(text: str) -> None:
    pieces = spoken(text)
    assert "".join(pieces) == text
    for piece in pieces[1:]:
        assert unicodedata.category(piece[0])[0] != "M"
        assert piece[0] not in "าゃー"


def test_marks_without_a_letter_have_an_end() -> None:
    assert "".join(spoken("a" + "\u0301" * 1000)) == "a" + "\u0301" * 199


def test_a_long_link_is_held_together() -> None:
    assert spoken(f"[Our list](https://x.y/{'z' * 600}) is here.") == ["Our list is here."]


def test_a_long_sentence_is_not_cut_inside_a_link() -> None:
    text = "Look here, " + "really " * 24 + f"at {LINK} and [that, too](https://x.y/{'z' * 300})."
    assert " ".join(spoken(text)).endswith("How much, and when? | Riverside and that, too.")


@pytest.mark.parametrize(
    "piece",
    [
        "【",
        "[",
        "![x](y",
        "([a.b](",
        "[hangup",
        ". ",
        '. "',
        ".【",
        "\n- ",
        "abcd",
        "abc ",
        "_",
        "「a。",
        "[a](",
        "[[a]",
        "https://a(",
        "<a ",
        '"a',
        "&a",
        "1. ",
    ],
)
def test_work_a_letter_is_bounded_in_a_reply_without_an_end(piece: str) -> None:
    # 16 times as much text is 16 times the work, and not 256 times; what else runs doesn't count
    short = min(cpu_seconds([piece] * 200) for _ in range(3))
    assert any(cpu_seconds([piece] * 3200) < 64 * short for _ in range(3))


def cpu_seconds(chunks: list[str]) -> float:
    before = time.thread_time()
    list(sentences(chunks))
    return time.thread_time() - before


# --- markup -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("See [our list](https://x.y/z?a=b.c) now.", "See our list now."),
        ('See [our list](https://x.y/a_(b) "A title") now.', "See our list now."),
        ("See [How much is it? | Riverside](https://x.y/faq) for that.",
         "See How much is it? | Riverside for that."),
        ("![logo](https://x.y/logo.png) Welcome.", "logo Welcome."),
        ("[**Book now**](https://x.y) if you like.", "Book now if you like."),
        ("Mail https://mail.example/now.", "Mail."),
        ("Well, (https://x.y/z) it is.", "Well, it is."),
        ("Well, <https://x.y> it is.", "Well, it is."),
        ("请看https://x.y/z。", "请看。"),
        ("See [our list](https://x.y/a(b(c))d) or [it](<https://x.y/a b>) now.",
         "See our list or it now."),
        ("See [our list](https://x.y 'A title') and [[that]](https://x.y/z).",
         "See our list and that."),
        ("[![logo](https://x.y/l.png)](https://x.y) Welcome.", "logo Welcome."),
        ("See [our list][1], [the other][] and [that][c].\n\n[1]: https://x.y 'One'\n[c]: <https://x.y>",
         "See our list, the other and that."),
        ("So it is.[^1]\n[^1]: https://x.y", "So it is."),
        ("[Mail](mailto:a@b.com) or [call](tel:+15552223333).", "Mail or call."),
        ("Mail https://x.y/a_(b).", "Mail."),
        ("Well, (https://x.y/a_(b)) it is.", "Well, it is."),
        ("Tom &amp; Jerry&#39;s &quot;shop&quot;&nbsp;is &lt;here&gt; &#x2014; yes.",
         'Tom & Jerry\'s "shop" is <here> — yes.'),
        ("<p>Line<br>break, <b>bold</b><br/>and <a href='https://x.y'>linked</a>.</p><!-- x -->",
         "Line break, bold and linked."),
        ("Use `x` now ```python", "Use x now"),
        ("It is sunny. ([weather.com](https://weather.com/a?utm_source=openai))", "It is sunny."),
        ("Sunny ([weather.com](https://w.com), [bbc.co.uk](https://b.uk)) today.", "Sunny today."),
        ("It is so[^1] and so[1, 2] and so [3-5].", "It is so and so and so."),
        ("Your code is [4711].", "Your code is [4711]."),
        ("It is so[[1]](https://x.y) and [2](https://x.y/z) so.", "It is so and so."),
        ("Monday【4:0†source】 or Tuesday \ue200cite\ue202turn0\ue201.", "Monday or Tuesday."),
        ("It is **$4.50** *now*, ***really***, __yes__, ~~no~~ `x`.",
         "It is $4.50 now, really, yes, no x."),
        ("*Only $45*", "Only $45"),
        ("Ask **Dr.** Smith in the shop.", "Ask Dr. Smith in the shop."),
        ("」请带上您的行驶证。", "请带上您的行驶证。"),
        ("- **Oil**: $40", "Oil: $40"),
        ("> - [x] Done", "Done"),
        ("### Our prices", "Our prices"),
        ("| Service | Price |", "Service, Price"),
        ("first\\_name and 5 \\* 3", "first_name and 5 * 3"),
    ],
)  # fmt: skip
def test_markup_is_not_read_out(text: str, expected: str) -> None:
    assert spoken(text) == [expected]
    assert list(sentences(text)) == [expected]


@pytest.mark.parametrize(
    "text",
    [
        "Press * to go back.",
        "Press *, then #.",
        "Dial *67 or *69 now.",
        "5 * 3 is 15.",
        "2*80 dollars it is.",
        "Mon|Tue|Wed are free.",
        "Service|Price as you like.",
        "Your user is first_name here.",
        "You can book at www.riverside-auto.com.",
        "Write to jo_ann@example.com or call.",
        "It is -5 degrees, or ~5.",
        "Please [hang on].",
        "See the list (our best one) now.",
        "A < B and C > D.",
        "Say <name> or <b1> here.",
        "R&D and AT&T; &c. and &nosuchletter; too.",
        "Dial (1) or [a]: it is one.",
        "TV\\Radio and 2*3*4.",
        "#1 in town, 100% sure.",
        "Bonjour, ça va ?",
    ],
)
def test_what_means_something_is_said(text: str) -> None:
    assert spoken(text) == [text]
    assert list(sentences(text)) == [text]


def test_emphasis_may_span_sentences() -> None:
    assert spoken("*Be careful in there. The floor is wet today.* Thanks for that.") == [
        "Be careful in there.",
        "The floor is wet today.",
        "Thanks for that.",
    ]


# --- control markers --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[hangup]", ["[hangup]"]),
        ("Bye. [HANGUP]", ["Bye.", "[hangup]"]),
        ("Bye[hangup].", ["Bye.", "[hangup]"]),
        ("Bye. **[hangup]**", ["Bye.", "[hangup]"]),
        ("Bye. `[hang up]`", ["Bye.", "[hangup]"]),
        ("Bye. \\[hangup\\]", ["Bye.", "[hangup]"]),
        ("[ Transfer: +1 999 ]", ["[transfer]"]),
        ("I connect you. [transfer: +1555. Desk]", ["I connect you.", "[transfer]"]),
        ("Ok.\n[transfer]\n[hangup]", ["Ok.", "[transfer]", "[hangup]"]),
        ("One moment [transfer] please.", ["One moment", "[transfer]", "please."]),
        ("Bye. [hangup", ["Bye."]),
        ("Please [transferable] it.", ["Please [transferable] it."]),
        ("See [Transfer fees](https://x.y/z) there.", ["See Transfer fees there."]),
        ("See [hang-up hooks](https://x.y/z) there.", ["See hang-up hooks there."]),
        ("It takes a day. ([Transfer it](https://x.y/?utm_source=openai))", ["It takes a day."]),
    ],
)
def test_a_control_marker_is_an_item_of_its_own(text: str, expected: list[str]) -> None:
    assert spoken(text) == expected
    assert list(sentences(text)) == expected


def test_the_end_of_a_paragraph_waits_for_nothing_however_short_it_is() -> None:
    chunks = iter(["I can look that up for you. One moment.", "\n\n", "It is nine."])
    reply = sentences(chunks)
    assert [next(reply), next(reply)] == ["I can look that up for you.", "One moment."]
    assert next(chunks) == "It is nine.", "it has not been waited for"
    assert spoken("Yes.\nNo.\nMaybe.") == ["Yes. No. Maybe."]


def test_a_marker_waits_for_no_more_than_one_letter() -> None:
    reply = sentences(iter(["Bye.", " [hang", "up]", "\n", "never to be pulled"]))
    assert [next(reply), next(reply)] == ["Bye.", "[hangup]"]


# --- all at once ------------------------------------------------------------------------------


def test_a_whole_reply_as_workflows_write_them() -> None:
    reply = (
        "## Prices\nDr. Smith charges **$4.50** at 9.30 a.m. on Monday【4:0†source】!"
        " See [our list](https://x.y/z?a=b.c) for the rest. Is that all for today?\n\n"
        "1. Oil\n2. *Brakes*\n- `tyres`\n\nMail https://mail.example/now. Bye…"
        " [transfer: +1999] [hangup]"
    )
    expected = [
        "Prices",
        "Dr. Smith charges $4.50 at 9.30 a.m. on Monday!",
        "See our list for the rest.",
        "Is that all for today?",
        "1. Oil",
        "2. Brakes",
        "tyres",
        "Mail. Bye…",
        "[transfer]",
        "[hangup]",
    ]
    assert spoken(reply) == expected
    assert list(sentences(reply)) == expected
