"""Forms of MCP servers: whatever a server sends is a form or is refused, and values fit it or do not."""

from typing import Any

import msgspec
import pytest
from bytebrew_mcp.jsonrpc import JsonRpcError
from bytebrew_mcp.server_requests.elicitation import question_of
from bytebrew_mcp.server_requests.forms import form_of
from bytebrew_mcp.server_requests.sampling import request_of
from hypothesis import given
from hypothesis import strategies as st

from bytebrew import masker
from bytebrew.base.json_schema import form_fields

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYWORDS = (
    *("type", "title", "description", "default", "enum", "enumNames", "oneOf", "anyOf", "items", "format", "const"),
    *("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems"),
)
TYPES = st.sampled_from(["string", "number", "integer", "boolean", "array", "object", "null"])
CHOICE = st.fixed_dictionaries({"const": st.text(max_size=3)}, optional={"title": JSON})
VALUES = {"type": TYPES, "enum": st.lists(st.text(max_size=3), max_size=3), "oneOf": st.lists(CHOICE, max_size=3)}
FIELD = st.fixed_dictionaries({}, optional={name: VALUES.get(name, JSON) | JSON for name in KEYWORDS})
SCHEMA = st.fixed_dictionaries(
    {"properties": st.dictionaries(st.text(min_size=1, max_size=5), FIELD | JSON, max_size=4)},
    optional={"type": st.just("object") | JSON, "required": st.lists(st.text(max_size=5), max_size=3) | JSON},
)
UNMASKED = masker((), 0)


@given(SCHEMA | JSON, st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_whatever_a_server_sends_is_a_form_or_is_refused(schema: Any, values: dict[str, Any]) -> None:
    try:
        form = form_of(schema)
    except ValueError as error:
        assert str(error)
        return
    assert form_of(form) == form
    named = {name: next(iter(values.values()), None) for name in form["properties"]}
    for given_values in (values, named, form_fields.defaults(form)):
        for fault in form_fields.faults(form, given_values, "$.input"):
            assert fault.path.startswith("$.input.")
    for name, field in form["properties"].items():
        for choice in form_fields.choices(field) or ():
            assert not [one for one in form_fields.faults(form, {name: choice}, "$") if one.path == f"$.{name}"]


@given(
    JSON
    | st.fixed_dictionaries({"message": JSON, "requestedSchema": SCHEMA | JSON}, optional={"mode": JSON, "url": JSON})
)
def test_an_elicitation_is_a_question_or_an_error_of_the_protocol(params: Any) -> None:
    try:
        question = question_of(params, UNMASKED)
    except JsonRpcError as error:
        assert error.code == -32602
    else:
        assert question.message.strip()
        msgspec.json.encode(question)


@given(JSON | st.fixed_dictionaries({"messages": JSON, "maxTokens": JSON}))
def test_a_sampling_is_a_request_or_an_error_of_the_protocol(params: Any) -> None:
    try:
        request = request_of(params, 100)
    except JsonRpcError as error:
        assert error.code == -32602
    else:
        assert 0 < (request.max_tokens or 0) <= 100


@pytest.mark.parametrize(
    ("field", "fits", "unfit"),
    [
        ({"type": "string", "minLength": 2, "maxLength": 3}, ["ab", "abc"], ["a", "abcd", 1, None, ["ab"]]),
        ({"type": "string", "format": "email"}, ["a@b.example"], ["a", "a b@c", "@b"]),
        ({"type": "string", "format": "uri"}, ["https://a.example", "mailto:a@b"], ["a", ""]),
        ({"type": "string", "format": "date"}, ["2000-02-29"], ["2001-02-29", "20000229", "today"]),
        ({"type": "string", "format": "date-time"}, ["2026-07-28T12:00:00Z"], ["2026-07-28T12:00:00", "noon"]),
        ({"type": "integer", "minimum": 1, "maximum": 3}, [1, 3], [0, 4, 1.5, "1", True]),
        ({"type": "number", "minimum": 0.5}, [0.5, 7], [0.4, True, "1"]),
        ({"type": "boolean"}, [True, False], [0, 1, "true"]),
        ({"type": "string", "enum": ["a", "b"]}, ["a"], ["c", ["a"]]),
        (
            {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1, "maxItems": 1},
            [["a"]],
            [[], ["c"], ["a", "b"], "a"],
        ),
    ],
)
def test_values_fit_a_field_or_not(field: dict[str, Any], fits: list[Any], unfit: list[Any]) -> None:
    form = form_of({"type": "object", "properties": {"x": field}})
    for value in fits:
        assert form_fields.faults(form, {"x": value}, "$") == [], value
    for value in unfit:
        assert form_fields.faults(form, {"x": value}, "$"), value


@pytest.mark.parametrize(
    ("field", "taken"),
    [
        ({"type": "string", "default": "yes"}, True),
        ({"type": "string", "default": "yes\u200b"}, False),
        ({"type": "array", "items": {"enum": ["a"]}, "default": ["a"]}, True),
        ({"type": "array", "items": {"enum": ["a"]}, "default": ["a\u202e"]}, False),
        ({"type": "boolean", "default": True}, True),
        ({"type": "integer", "default": True}, False),
    ],
)
def test_a_field_begins_with_what_a_person_sees(field: dict[str, Any], taken: bool) -> None:
    form = form_of({"type": "object", "properties": {"x": field}})
    assert ("default" in form["properties"]["x"]) is taken
