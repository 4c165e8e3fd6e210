"""Invisible characters are shown by their numbers, no two texts alike; what was left as shown is meant as it was."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bytebrew.base.visible_text import restore_exact, shown, visible

PLAIN = [
    "Zahle 5 €",
    "שלום עולם",
    "مرحبا",
    "日本語",
    "a\tb\nc\r\nd",
    "naïve",
    "e\u0301",
    "❤\ufe0f",
    "👍🏽",
    "[x] U+202E",
    "",
]
BIDI = [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
NO_WIDTH = [0x00AD, 0x034F, 0x115F, 0x180E, 0x200B, 0x200C, 0x200D, 0x2060, 0x2800, 0x3164, 0xFEFF, 0xE0041, 0xE0101]


@pytest.mark.parametrize("text", PLAIN)
def test_what_everybody_sees_is_shown_as_it_is(text: str) -> None:
    assert shown(text) == text


@pytest.mark.parametrize("number", [*BIDI, *NO_WIDTH, 0x00, 0x08, 0x1B, 0x7F, 0x85, 0x2028, 0x2029])
def test_what_nobody_sees_is_shown_by_its_number(number: int) -> None:
    assert shown(f"a{chr(number)}b") == f"a[U+{number:04X}]b"


def test_every_format_character_of_unicode_is_shown() -> None:
    formats = [chr(n) for n in range(0x110000) if unicodedata.category(chr(n)) == "Cf"]
    drawn = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"  # have a shape
    hieroglyphs = {chr(n) for n in range(0x13430, 0x13440)}
    assert {one for one in formats if shown(one) == one} <= {*drawn, *hieroglyphs}


def test_a_return_that_leads_back_over_its_line_is_shown() -> None:
    assert shown("rm -rf /\recho hi") == "rm -rf /[U+000D]echo hi"


def test_a_selector_is_passed_over_behind_a_symbol_once() -> None:
    assert shown("a\ufe0f ❤\ufe0f\ufe0f") == "a[U+FE0F] ❤\ufe0f[U+FE0F]"


@given(
    st.text(alphabet=st.sampled_from("[U+202E]\u202e\u200b❤\ufe0fB5")),
    st.text(alphabet="[U+202E]\u202e\u200b❤\ufe0fB5"),
)
def test_no_two_texts_are_shown_alike(one: str, other: str) -> None:
    assert (shown(one) == shown(other)) == (one == other)


values = st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(values)
def test_what_is_sent_back_as_it_was_shown_is_what_it_was(value: object) -> None:
    assert restore_exact(visible(value), value) == value


def test_what_was_changed_is_meant_as_it_is_sent() -> None:
    exact = {"to\u200b": "an\u200bna", "tags": ["x\u202e", "y"]}
    sent = {"to[U+200B]": "[U+200B]bob", "tags": ["x[U+202E]"]}
    assert restore_exact(sent, exact) == {"to\u200b": "[U+200B]bob", "tags": ["x\u202e"]}
