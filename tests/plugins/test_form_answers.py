"""Answers to a form that are none, very many of them: what it costs to say so grows no faster than they are many."""

import random

import pytest
from bytebrew_structured_output import MOST_FAULTS, Question, StructuredOutput

from bytebrew import Unprocessable


class Name(str):
    """The name of an answer, which counts how often it is compared."""

    __slots__ = ()
    compared = 0

    def __lt__(self, other: str) -> bool:
        Name.compared += 1
        return super().__lt__(other)


def test_very_many_answers_are_not_sorted_to_name_the_first_of_them() -> None:
    names = [Name(f"{n:06}") for n in range(20_000)]
    random.Random(1).shuffle(names)
    form = StructuredOutput(call_id="c", output_type="form", questions=(Question(id="z", label="Z", default="z"),))
    with pytest.raises(Unprocessable) as refused:
        form.answered(dict.fromkeys(names, 1))
    details = refused.value.details or ()
    assert [one.path for one in details] == [f"$.message.form.{n:06}" for n in range(MOST_FAULTS)]
    assert Name.compared < 3 * len(names)
