"""How deep a JSON text is nested is seen in C: everybody waits meanwhile, and a text may consist of brackets."""

from bytebrew.base.validation import depth
from tests.lines import lines


def test_brackets_are_counted_in_as_many_steps_however_many_there_are() -> None:
    assert lines(lambda: depth(b"[[]]" * 100_000)) == lines(lambda: depth(b"[[]]"))


def test_brackets_within_texts_do_not_count() -> None:
    texts = (b"", b"1", b'"[["', b'[{"a]": "}"}]', b"[][[]]")
    assert [depth(text) for text in texts] == [0, 0, 0, 2, 2]
