"""Type hints become JSON Schemas that say the same, and values come back as these types."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import jsonschema_rs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bytebrew_client import Tool, tool
from bytebrew_client.json_schema import convert, schema_of
from bytebrew_client.turn import encoded


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Price:
    amount: float
    currency: Literal["EUR", "USD"] = "EUR"


@dataclass
class Laptop:
    name: str
    price: Price
    tags: list[str] = field(default_factory=list)
    twin: "Laptop | None" = None


class Place(TypedDict):
    city: str
    zip: NotRequired[int]


class Model(pydantic.BaseModel):
    name: str
    prices: list["Inner"]


class Inner(pydantic.BaseModel):
    amount: int


class Packed(msgspec.Struct):
    name: str
    price: int | None = None


Model.model_rebuild()

CASES: list[tuple[Any, Any, Any]] = [
    (str, "x", "x"),
    (int, 3, 3),
    (int, 3.0, 3),
    (float, 1.5, 1.5),
    (float, 2, 2.0),
    (bool, True, True),
    (Any, {"a": [1]}, {"a": [1]}),
    (list[int], [1, 2], [1, 2]),
    (list, [1, "a"], [1, "a"]),
    (Sequence[int], [1, 2], [1, 2]),
    (set[str], ["a"], {"a"}),
    (tuple[int, ...], [1, 2], (1, 2)),
    (tuple[int, str], [1, "a"], (1, "a")),
    (dict[str, int], {"a": 1}, {"a": 1}),
    (Mapping[str, list[int]], {"a": [1]}, {"a": [1]}),
    (Literal["a", 1], 1, 1),
    (Literal["a", 1], 1.0, 1),
    (int | None, None, None),
    (str | list[int], [1], [1]),
    (Color, "red", Color.RED),
    (Annotated[int, "how many"], 3, 3),
    (Price, {"amount": 3}, Price(3.0)),
    (
        Laptop,
        {"name": "a", "price": {"amount": 1.5, "currency": "USD"}, "twin": {"name": "b", "price": {"amount": 2.5}}},
        Laptop("a", Price(1.5, "USD"), twin=Laptop("b", Price(2.5))),
    ),
    (Place, {"city": "Oslo"}, {"city": "Oslo"}),
    (list[Place], [{"city": "Oslo", "zip": 7}], [{"city": "Oslo", "zip": 7}]),
    (Model, {"name": "a", "prices": [{"amount": 1}]}, Model(name="a", prices=[Inner(amount=1)])),
    (Packed, {"name": "a", "price": 3}, Packed("a", 3)),
    (list[Packed], [{"name": "a"}], [Packed("a")]),
]


@pytest.mark.parametrize(("hint", "value", "expected"), CASES)
def test_a_value_that_is_valid_becomes_the_type(hint: Any, value: Any, expected: Any) -> None:
    schema = schema_of(hint)
    jsonschema_rs.validate(schema, value)
    made = convert(hint, value)
    assert made == expected
    assert type(made) is type(expected)
    again = convert(hint, msgspec.json.decode(encoded(made)))  # what is sent is as what came
    assert again == made


@pytest.mark.parametrize(
    ("hint", "value", "path"),
    [
        (str, 3, "$"),
        (int, "3", "$"),
        (int, True, "$"),
        (int, 1.5, "$"),
        (list[int], [1, "a"], r"$[1]"),
        (tuple[int, str], [1], "$"),
        (dict[str, int], {"a": "b"}, "$.a"),
        (Literal["a", "b"], "c", "$"),
        (int | None, "x", "$"),
        (Color, "green", "green"),
        (Price, {"currency": "EUR"}, "$.amount is missing"),
        (Laptop, {"name": "a", "price": {"amount": "x"}}, "$.price.amount"),
        (Place, {"zip": 7}, "$.city is missing"),
        (Place, [], "$"),
        (Model, {"name": 3}, ""),
        (Packed, {"name": 3}, ""),
    ],
)
def test_a_value_that_is_not_valid_is_a_fault_with_its_path(hint: Any, value: Any, path: str) -> None:
    assert not jsonschema_rs.is_valid(schema_of(hint), value)
    with pytest.raises(ValueError) as caught:
        convert(hint, value)
    assert path in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False) | st.text("ab"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "name", "amount"]), inner),
    max_leaves=6,
)
HINTS = st.sampled_from([hint for hint, _, _ in CASES if hint not in (Model, Packed, list[Packed])])


@given(HINTS, JSON)
def test_what_the_schema_allows_is_what_is_taken(hint: Any, value: Any) -> None:
    valid = jsonschema_rs.is_valid(schema_of(hint), value)
    try:
        convert(hint, value)
    except (ValueError, TypeError):
        assert not valid
    else:
        assert valid or _is_laxer(hint, value)


def _is_laxer(hint: Any, value: Any) -> bool:
    """Whether the conversion takes more than the schema: repeated items of a set, unknown fields of an object."""
    return isinstance(value, dict) or hint == set[str] or hint == list[Place]


def namesake() -> Any:
    """Another type of the same name."""

    @dataclass
    class Price:
        cents: int

    return Price


def test_types_of_one_name_are_kept_apart() -> None:
    schema = schema_of(Price | namesake())
    assert len(schema["$defs"]) == 2
    jsonschema_rs.validate(schema, {"cents": 3})
    jsonschema_rs.validate(schema, {"amount": 3})


def test_a_type_without_a_schema_is_refused() -> None:
    with pytest.raises(TypeError, match="no JSON Schema"):
        schema_of(object.__class__)
    with pytest.raises(TypeError, match="no JSON Schema"):

        @tool
        def send(file: bytes) -> None:
            """Sends it."""


def test_a_tool_has_the_words_and_the_schema_of_its_function() -> None:
    @tool
    def book(
        place: Annotated[Place, "where to"], nights: Annotated[int, "how many"] = 1, *, price: Price | None = None
    ) -> str:
        """Books a
        room.

        Not for the model.
        """
        return f"{place['city']} {nights} {price}"

    assert isinstance(book, Tool)
    assert book.spec()["description"] == "Books a room."
    schema = book.spec()["input_schema"]
    assert schema["required"] == ["place"]
    assert schema["properties"]["nights"] == {"type": "integer", "description": "how many"}
    assert schema["properties"]["place"]["description"] == "where to"
    assert set(schema["$defs"]) == {"Place", "Price"}
    input = {"place": {"city": "Oslo"}, "price": {"amount": 3}}
    jsonschema_rs.validate(schema, input)
    assert book.run(input) == f"Oslo 1 {Price(3.0)}"
    assert book({"city": "Rome"}) == "Rome 1 None"


def test_a_tool_has_another_name_and_description_where_it_is_given_one() -> None:
    @tool(name="where", description="The place")
    def place() -> str:
        """Ignored."""
        return "here"

    assert (place.name, place.spec()["description"], repr(place)) == ("where", "The place", "Tool('where')")


@pytest.mark.parametrize("function", [lambda *a: 1, lambda **k: 1, lambda a, /: 1])
def test_a_parameter_that_has_no_name_is_refused(function: Any) -> None:
    with pytest.raises(TypeError, match="by its name"):
        Tool(function, name="f")
