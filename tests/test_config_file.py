"""The configuration file: what is read, what is refused, and that what comes out goes in again."""

import json
import resource
import time
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bytebrew import config_file, documents
from bytebrew.checking import parse
from bytebrew.config import NewModel
from bytebrew.core_sections import AgentItem
from bytebrew.dialects import plain
from bytebrew.documents import InvalidConfig
from bytebrew.engine import Engine
from bytebrew.testing import engine
from bytebrew.variables import escaped, expanded, placeholder, resolved

MEBIBYTE = 1 << 20
EMPTY = {"BYTEBREW_DISABLED_PLUGINS": "demo"}

TEXTS = st.text(max_size=30) | st.text("ab \n\t:#-'\"|>%&*!{}[],?$\r\x85\u2028\ufeff\x00~", max_size=30)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=10,
)


# Reading and writing.


@settings(max_examples=300, deadline=None, database=None)
@given(st.dictionaries(st.text(min_size=1), JSON, min_size=1, max_size=4))
def test_what_is_written_is_read_again(value: dict[str, Any]) -> None:
    text = documents.write(value)
    node, problems = documents.read(text.encode())
    assert not problems
    assert plain(node) == value
    assert documents.write(plain(node)) == text


@settings(max_examples=200, deadline=None, database=None)
@given(st.dictionaries(TEXTS.filter(lambda text: "<<" not in text), JSON, max_size=4))
def test_json_is_yaml(value: dict[str, Any]) -> None:
    node, problems = documents.read(json.dumps(value).replace("\x7f", "\\u007f").encode())
    assert not problems
    assert plain(node) == value


def test_two_halves_of_a_character_are_one_and_a_half_is_none() -> None:
    node, _ = documents.read(b'{"a": "\\ud83d\\ude00"}')
    assert plain(node) == {"a": "\U0001f600"}
    _, [problem] = documents.read(b'a: "\\ud83d"')
    assert (problem.line, problem.column, problem.message) == (1, 4, "holds half a character")


def test_texts_of_several_lines_are_blocks_and_words_that_could_be_more_are_quoted() -> None:
    value = {"a": {"system": "You sell.\n\nBe kind.\n", "s": "no", "v": "1.0", "d": "2026-01-01"}, "l": [{"b": [1]}]}
    assert documents.write(value) == (
        'a:\n  system: |\n    You sell.\n\n    Be kind.\n  s: "no"\n  v: "1.0"\n  d: "2026-01-01"\n'
        "l:\n  - b:\n      - 1\n"
    )


def test_words_without_quotes_are_those_of_yaml_1_2() -> None:
    text = b"[yes, on, ~, null, true, 0o17, 0x1f, -3, 1e3, .5, 012, 1_000, 2026-01-01, 12:30, '5', !!str 5]"
    node, _ = documents.read(text)
    assert plain(node) == [
        *("yes", "on", None, None, True, 15, 31, -3, 1000.0, 0.5),
        *(12, "1_000", "2026-01-01", "12:30", "5", "5"),
    ]


def test_aliases_and_merge_keys_are_read() -> None:
    node, _ = documents.read(b"base: &base {a: 1, b: 2}\none: {<<: *base, b: 3}\ntwo: [*base]")
    assert plain(node) == {"base": {"a": 1, "b": 2}, "one": {"a": 1, "b": 3}, "two": [{"a": 1, "b": 2}]}


BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "values, aliases counted each time"),
        ("a: &a [*a]", "names no value before it"),
        ("a: &a {b: *a}", "names no value before it"),
        ("[" * MEBIBYTE, "nested deeper than 50 levels"),
        ("{a: " * (MEBIBYTE // 4), "nested deeper than 50 levels"),
        ("- " * (MEBIBYTE // 2), "nested deeper than 50 levels"),
        ("a: [" + "1," * (MEBIBYTE // 2) + "]", "values, aliases counted each time"),
        (
            "a: &a {" + ",".join(f"k{n}: 1" for n in range(10_000)) + "}\nb:\n" + "  - {<<: *a}\n" * 1000,
            "aliases counted",
        ),
        ("!" * MEBIBYTE, "a tag is longer than 200 characters"),
        ("!" + "a" * MEBIBYTE, "a tag is longer than 200 characters"),
        ("%YAML " + "1" * MEBIBYTE, "a directive is longer than 200 characters"),
        ("x: 1\n" * (MEBIBYTE // 5), "stands in line 1 already"),
        ("'" + "a\n" * (MEBIBYTE // 2), "unexpected end of stream"),
        ("? [a]: b", "a key is a single word"),
        ("a\n---\nb", "a second document"),
        ("a: b: c", "mapping values are not allowed here"),
        ("a:\n\t- b", "cannot start any token"),
        ("a: \x07", "a character that YAML does not allow"),
    ],
    ids=lambda value: value[:12],
)
def test_what_would_cost_much_is_refused_within_seconds_and_little_memory(text: str, words: str) -> None:
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(InvalidConfig, match=words):
        documents.read(text.encode())
    assert time.monotonic() - began < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000  # KiB


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: 1\na: 2", (2, 1), "the key 'a' stands in line 1 already"),
        ("b:\n  - !!python/object/apply:os.system [id]", (2, 5), "has the tag tag:yaml.org,2002:python/object"),
        ("a: !!python/name:os.system x", (1, 4), "python/name:os.system, which is not read here"),
        ("a: !!binary aGk=", (1, 4), "binary, which is not read here"),
        ("a: !mine {b: 1}", (1, 4), "has the tag !mine"),
        ("a: 99999999999999999999", (1, 4), "is a number of more than 64 bits"),
        ("a: " + "9" * 10_000, (1, 4), "is a number of more than 64 bits"),
        ("a: .inf", (1, 4), "is no finite number"),
        ("a: .NaN", (1, 4), "is no finite number"),
        ("a: 1\n<<: 5", (2, 5), "<< takes in a mapping"),
    ],
)
def test_what_is_not_read_is_told_with_its_place(text: str, place: tuple[int, int], words: str) -> None:
    _, [problem] = documents.read(text.encode())
    assert (problem.line, problem.column) == place
    assert words in problem.message


def test_what_is_not_utf_8_is_refused_where_it_is() -> None:
    with pytest.raises(InvalidConfig) as caught:
        documents.read("a: ü\nb: ".encode() + b"\xff")
    [problem] = caught.value.details
    assert (problem.line, problem.column) == (2, 4)  # type: ignore[attr-defined]


# Variables.


def test_variables_are_expanded_with_their_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP", "duck")
    monkeypatch.setenv("NOTHING", "")
    monkeypatch.delenv("GONE", raising=False)
    assert expanded("a ${SHOP} ${GONE:-b} ${NOTHING:-c} ${GONE:-}$${SHOP} $SHOP ${1}") == (
        "a duck b c ${SHOP} $SHOP ${1}",
        [],
    )
    assert expanded("${GONE}${GONE}") == ("", ["GONE", "GONE"])
    with pytest.raises(ValueError, match="BYTEBREW_PORT is the engine's own"):
        expanded("${BYTEBREW_PORT}")


@given(st.text() | st.text("${}A:-"))
def test_what_is_escaped_is_expanded_to_itself(text: str) -> None:
    assert expanded(escaped(text)) == (text, [])


def test_credentials_are_resolved_and_their_placeholders_have_no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "sk-1")
    monkeypatch.delenv("GONE", raising=False)
    assert [placeholder(text) for text in ("${KEY}", "${KEY:-sk-2}", "Bearer ${KEY}", "sk-${KEY}", "sk-1", "")] == [
        *("${KEY}", "${KEY}", "Bearer ${KEY}", "", "", ""),
    ]
    assert [resolved(text) for text in ("${KEY}", "${GONE:-sk-2}", "Bearer ${KEY}", "sk-${KEY}", "sk-1")] == [
        *("sk-1", "sk-2", "Bearer sk-1", "sk-${KEY}", "sk-1"),
    ]
    for text in ("${GONE}", "${BYTEBREW_TOKEN}"):
        with pytest.raises(Exception, match=r"GONE|BYTEBREW_TOKEN"):
            resolved(text)


# Round trips.


async def taken_in(running: Engine, text: str, **options: Any) -> config_file.Plan:
    return await config_file.take_in(running, text.encode(), **options)


async def exported(running: Engine) -> str:
    return config_file.text_of((await running.db.read(config_file.export, running))[0])


NAMES = ["a", "b.c", "d-e", "0", "yes"]
WORDS = st.lists(st.text(min_size=1, max_size=8), max_size=3)
AGENTS = st.fixed_dictionaries(
    {},
    optional={
        "description": TEXTS,
        "system": TEXTS,
        "model": st.none() | st.sampled_from([*NAMES, "missing"]),
        "lifecycle": st.sampled_from(["persistent", "spawn"]),
        "max_steps": st.integers(1, 500),
        "temperature": st.none() | st.floats(0, 2),
        "max_tokens": st.none() | st.integers(1, 10_000_000),
        "stop_sequences": WORDS,
        "tools": WORDS,
        "confirm_before": WORDS,
        "can_spawn": st.lists(st.sampled_from(NAMES), max_size=3),
        "capabilities": st.lists(
            st.fixed_dictionaries({"type": st.just("memory")}, optional={"enabled": st.booleans()}), max_size=1
        ),
    },
)
MODELS = st.fixed_dictionaries(
    {"type": st.sampled_from(["ollama", "anthropic"]), "model_name": TEXTS.filter(bool)},
    optional={
        "base_url": st.sampled_from(["", "https://a.example/v1"]),
        "api_key": st.sampled_from(["", "sk-secret", "${SOME_KEY}", "${SOME_KEY:-sk-default}"]),
        "pricing_input": st.none() | st.floats(0, 1000),
        "fallback": st.lists(st.sampled_from(NAMES), max_size=2, unique=True),
    },
)


@settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(st.sampled_from(NAMES), MODELS, max_size=4),
    st.dictionaries(st.sampled_from(NAMES), AGENTS, max_size=4),
    st.sampled_from([*NAMES, ""]),
)
async def test_export_import_export_gives_equal_bytes(
    models: dict[str, Any], agents: dict[str, Any], default: str
) -> None:
    for name, model in models.items():
        model["fallback"] = [other for other in model.get("fallback", ()) if other in models and other != name]
    if default in models:
        models[default]["is_default"] = True
    schemas = {f"s-{n}": {"entry_agent": name, "chat_enabled": n == 0} for n, name in enumerate(agents)}
    whole = {"models": models, "agents": agents, "schemas": schemas, "settings": {"custom.x": [default, None]}}
    text = escaped(documents.write(whole)).replace("$${SOME_KEY", "${SOME_KEY")
    async with engine(settings=EMPTY) as first, engine(settings=EMPTY) as second:
        await taken_in(first, text)
        once = await exported(first)
        assert "sk-" not in once
        await taken_in(second, once)
        assert await exported(second) == once
        again = await taken_in(second, once, replace=True)
        assert {change.action for change in again.changes} <= {"unchanged"}
        assert await exported(second) == once
        assert {name: plain_agent["system"] for name, plain_agent in agents.items() if "system" in plain_agent} == {
            agent.name: agent.system for agent in await second.agents() if "system" in agents[agent.name]
        }


def test_every_field_of_models_and_agents_is_exported() -> None:
    fields = {field.name for kind in (NewModel, AgentItem) for field in msgspec.structs.fields(kind)}
    assert {"capabilities", "fallback", "mcp_servers", "embedding_dim"} <= fields


async def test_a_file_of_a_thousand_problems_is_refused_in_a_moment() -> None:
    async with engine() as running:
        lines = "".join(f"    field{n}: 1\n" for n in range(8000))
        began = time.monotonic()
        with pytest.raises(InvalidConfig, match="and 999 more"):
            parse(f"agents:\n  a:\n{lines}".encode(), running.sections)
        many = ", ".join(["1"] * 400)
        with pytest.raises(InvalidConfig) as caught:
            await taken_in(running, f"agents: {{a: {{tools: [{many}]}}}}")
        assert len(caught.value.details) == 20
        assert time.monotonic() - began < 15
