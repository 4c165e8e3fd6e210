"""JSON Schemas: what is refused with its path, and how much work a check may be."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bytebrew.base.json_schema.schemas import compiled
from bytebrew.base.json_schema.visits import InvalidSchema


def fault(schema: dict[str, Any], value: Any) -> str:
    return compiled(schema).fault(value, json.dumps(value).encode())


def doubled(levels: int) -> dict[str, Any]:
    """A schema of few bytes that applies 2 ** levels subschemas to one value."""
    defs: dict[str, Any] = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(levels)}
    return {"$defs": {**defs, f"a{levels}": {"type": "integer"}}, "$ref": "#/$defs/a0"}


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"type": "numbr"}, "$.type"),
        ({"properties": {"a b": {"minimum": "x"}}}, '$.properties["a b"].minimum'),
        ({"items": {"$ref": "https://example.com/s"}}, "$.items.$ref"),
        ({"$ref": "#/$defs/gone"}, "$"),
        ({"$ref": "#"}, "$"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "$.$schema"),
        ({"$defs": {"a": {"$id": "https://example.com/a"}}}, "$.$defs.a"),
        (doubled(40), "$"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_with_the_path(schema: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidSchema) as refused:
        compiled(schema)
    assert refused.value.detail.path == path


def test_a_type_that_does_not_exist_is_named_without_the_schema_of_schemas() -> None:
    with pytest.raises(InvalidSchema) as refused:
        compiled({"type": "numbr"})
    assert refused.value.detail.message == '"numbr" is nothing that draft 2020-12 has here'


def test_a_recursive_schema_is_checked_as_deep_as_its_work_is_bounded() -> None:
    branch = {"properties": {"x": {"$ref": "#/$defs/n"}}}
    schema = {"$defs": {"n": {"allOf": [branch, branch]}}, "$ref": "#/$defs/n"}
    value: Any = {}
    for _ in range(60):
        value = {"x": value}
    begun = time.monotonic()
    assert "too large, or nested too deeply" in fault(schema, value)
    assert fault(schema, {"x": {"x": {}}}) == ""
    assert time.monotonic() - begun < 2


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_a_value_is_valid_against_itself_as_a_constant_alone(value: Any) -> None:
    assert fault({"const": value}, value) == ""
    assert fault({"const": [value]}, value).startswith("$: ")


@pytest.mark.parametrize(
    ("pattern", "text", "count"),
    [
        (r"^(a|aa)+\1b$", "a" * 16, 50_000),  # back-references, of steps back below the limit in each text
        ("[ab]*a[ab]{100}c", "ab" * 600_000, 1),  # a hundred states to be in at each byte
    ],
)
def test_texts_are_checked_against_patterns_in_bounded_time(pattern: str, text: str, count: int) -> None:
    schema = {"type": "object", "properties": {"x": {"type": "array", "items": {"not": {"pattern": pattern}}}}}
    began = time.process_time()
    assert "too large" in fault(schema, {"x": [text] * count})
    assert time.process_time() - began < 2
    assert "too large" not in fault(schema, {"x": [text[:1000]] * min(count, 50)})


def test_a_pattern_of_too_many_states_is_refused() -> None:
    with pytest.raises(InvalidSchema) as refused:
        compiled({"properties": {"a": {"pattern": "[ab]*a[ab]{5000}c"}}})
    assert refused.value.detail.path == "$.properties.a.pattern"
