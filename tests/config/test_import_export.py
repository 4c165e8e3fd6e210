"""The configuration file: what is read, what is refused, and that what comes out goes in again."""

import json
import resource
import time
from typing import Any

import msgspec
import pytest
from bytebrew_old_dialects import OldDialects
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bytebrew.base.env_variables import escaped, expanded, placeholder, resolved
from bytebrew.config import import_export, yaml_tree
from bytebrew.config.validate import parse, sections_of
from bytebrew.config.yaml_tree import InvalidConfig
from bytebrew.engine import Engine
from bytebrew.testing import engine, served_engine

MEBIBYTE = 1 << 20
EMPTY = {"BYTEBREW_DISABLED_PLUGINS": "demo"}

LETTERS = st.characters(codec="utf-8", exclude_characters="\0")
NO_NUL = st.text(LETTERS, max_size=30)
TEXTS = NO_NUL | st.text("ab \n\t:#-'\"|>%&*!{}[],?$\r\x85\u2028\ufeff~", max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=10,
)


# Reading and writing.


@settings(max_examples=300, deadline=None, database=None)
@given(st.dictionaries(st.text(LETTERS, min_size=1), JSON, min_size=1, max_size=4))
def test_what_is_written_is_read_again(value: dict[str, Any]) -> None:
    text = yaml_tree.write(value)
    node, problems = yaml_tree.read(text.encode())
    assert not problems
    assert node.plain() == value
    assert yaml_tree.write(node.plain()) == text


@settings(max_examples=200, deadline=None, database=None)
@given(st.dictionaries(TEXTS.filter(lambda text: "<<" not in text), JSON, max_size=4))
def test_json_is_yaml(value: dict[str, Any]) -> None:
    node, problems = yaml_tree.read(json.dumps(value).replace("\x7f", "\\u007f").encode())
    assert not problems
    assert node.plain() == value


@pytest.mark.parametrize(
    "value",
    [
        {"a": {"\x01" * 190: {"\u2028" * 199: [{"k" * 2000: "x\ny"}]}}},
        {"a": 2**64, "b": -(2**80), "c": 10**4299, "d": 1e300, "e": 5e-324},
        json.loads('{"a": ' * 52 + "1" + "}" * 52),
        {
            "a": " x",
            "b": "x ",
            "c": "\n",
            "d": "x\n\n",
            "e": " x\ny",
            "f": "x\n \ny",
            "g": "x\t\ny",
            "h": "# x",
            "i": "x #y",
        },
        {
            word: word
            for word in ("yes", "No", "ON", "y", "~", "null", "1e3", "0x10", "0o7", "012", "1_0", ".5", "-", "=")
        },
        {
            word: word
            for word in ("2026-01-01", "12:30", "<<", "*a", "&a", "!a", "%a", "@a", "`a", "---", "...", "?", ":", "")
        },
        {"a": "x" * 10_000, "b": "x " * 10_000, "c": "\U0001f600\x85\ufeff\u2029\x7f\ufffe"},
    ],
    ids=["long keys", "long numbers", "deep", "spaces", "words", "signs", "long texts"],
)
def test_what_is_hard_to_write_is_read_again(value: dict[str, Any]) -> None:
    node, problems = yaml_tree.read(yaml_tree.write(value).encode())
    assert not problems
    assert node.plain() == value
    assert json.dumps(node.plain()) == json.dumps(value)


def test_two_halves_of_a_character_are_one_and_a_half_is_none() -> None:
    node, _ = yaml_tree.read(b'{"a": "\\ud83d\\ude00"}')
    assert node.plain() == {"a": "\U0001f600"}
    _, [problem] = yaml_tree.read(b'a: "\\ud83d"')
    assert (problem.line, problem.column, problem.message) == (1, 4, "holds half a character")


def test_texts_of_several_lines_are_blocks_and_words_that_could_be_more_are_quoted() -> None:
    value = {"a": {"system": "You sell.\n\nBe kind.\n", "s": "no", "v": "1.0", "d": "2026-01-01"}, "l": [{"b": [1]}]}
    assert yaml_tree.write(value) == (
        'a:\n  system: |\n    You sell.\n\n    Be kind.\n  s: "no"\n  v: "1.0"\n  d: "2026-01-01"\n'
        "l:\n  - b:\n      - 1\n"
    )


def test_words_without_quotes_are_those_of_yaml_1_2() -> None:
    text = b"[yes, on, ~, null, true, 0o17, 0x1f, -3, 1e3, .5, 012, 1_000, 2026-01-01, 12:30, '5', !!str 5]"
    node, _ = yaml_tree.read(text)
    assert node.plain() == [
        *("yes", "on", None, None, True, 15, 31, -3, 1000.0, 0.5),
        *(12, "1_000", "2026-01-01", "12:30", "5", "5"),
    ]


def test_aliases_and_merge_keys_are_read() -> None:
    node, _ = yaml_tree.read(b"base: &base {a: 1, b: 2}\none: {<<: *base, b: 3}\ntwo: [*base]")
    assert node.plain() == {"base": {"a": 1, "b": 2}, "one": {"a": 1, "b": 3}, "two": [{"a": 1, "b": 2}]}


BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "values, aliases counted each time"),
        ("a: &a [*a]", "names no value before it"),
        ("a: &a {b: *a}", "names no value before it"),
        ("[" * MEBIBYTE, "nested deeper than 110 levels"),
        ("{a: " * (MEBIBYTE // 4), "nested deeper than 110 levels"),
        ("- " * (MEBIBYTE // 2), "nested deeper than 110 levels"),
        (
            "a0: &a0 []\n" + "".join(f"a{n}: &a{n} {'[' * 40}*a{n - 1}{']' * 40}\n" for n in range(1, 35)),
            "nested deeper than 110 levels",
        ),
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
        yaml_tree.read(text.encode())
    assert time.monotonic() - began < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000  # KiB


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: 1\na: 2", (2, 1), "the key 'a' stands in line 1 already"),
        ("b:\n  - !!python/object/apply:os.system [id]", (2, 5), "has the tag tag:yaml.org,2002:python/object"),
        ("a: !!python/name:os.system x", (1, 4), "python/name, which is not read here"),
        ("a: !!binary aGk=", (1, 4), "binary, which is not read here"),
        ("a: !mine {b: 1}", (1, 4), "begins with !, which makes a tag"),
        ("!!python/name:os.system a: 1", (1, 1), "python/name, which is not read here"),
        ("a: " + "9" * 10_000, (1, 4), "is a number of too many digits"),
        ("a: 0x" + "f" * 10_000, (1, 4), "is a number of too many digits"),
        ("a: .inf", (1, 4), "is no finite number"),
        ("a: .NaN", (1, 4), "is no finite number"),
        ("a: 1\n<<: 5", (2, 5), "<< takes in a mapping"),
    ],
)
def test_what_is_not_read_is_told_with_its_place(text: str, place: tuple[int, int], words: str) -> None:
    _, [problem] = yaml_tree.read(text.encode())
    assert (problem.line, problem.column) == place
    assert words in problem.message


@pytest.mark.parametrize("form", ["a: {}", "- {}", "{} a: 1", "%TAG {} x\n%TAG {} y\n---\na"])
@pytest.mark.parametrize(
    "text",
    [
        *(
            "!Summer2024!",
            "!Summer2024!x",
            "!pa:Summer2024",
            "!!Summer2024",
            "!<Summer2024>",
            "!<Summer2024",
            "!Summer2024,",
        ),
        *("!Summer2024%zz", "!e!Summer2024", "!!python/Summer2024", "!!python/name:Summer2024", "!!set:Summer2024"),
        *("!!setSummer2024", "!Summer2024 x", "!Summer2024 {a: 1}"),
    ],
)
def test_a_password_that_begins_like_a_tag_is_not_told(text: str, form: str) -> None:
    try:
        _, problems = yaml_tree.read(form.replace("{}", text).encode())
    except InvalidConfig as error:
        problems = error.details  # type: ignore[assignment]
    assert problems
    assert all("Summer" not in one.message for one in problems)
    assert form != "a: {}" or "tag" in problems[0].message


@pytest.mark.parametrize("begin", [b"", b"\xef\xbb\xbf"], ids=["plain", "marked"])
def test_what_is_not_utf_8_is_refused_where_it_is(begin: bytes) -> None:
    with pytest.raises(InvalidConfig) as caught:
        yaml_tree.read(begin + "a: ü\nü: ".encode() + b"\xff")
    [problem] = caught.value.details
    assert (problem.line, problem.column) == (2, 4)  # type: ignore[attr-defined]


def test_longer_files_may_have_more_values() -> None:
    text = "\n".join(f"- {n:015}" for n in range(60_000))
    node, problems = yaml_tree.read(text.encode())
    assert (len(node.value), problems) == (60_000, [])


async def test_what_is_stored_as_deep_as_it_may_be_goes_round() -> None:
    async with served_engine(settings=EMPTY) as (running, client):
        deep = "[" * 99 + "]" * 99
        kind = {"content-type": "application/json"}
        stored = await client.put("/api/v1/settings/custom.x", content=f'{{"value": {deep}}}', headers=kind)
        assert stored.status_code == 200
        await taken_in(running, "agents: {a: {}, b: {}}\nmodels: {}")
        schema = f'{{"name": "s", "relations": [{{"source": "a", "target": "b", "config": {{"x": {deep[3:-3]}}}}}]}}'
        assert (await client.post("/api/v1/schemas", content=schema, headers=kind)).status_code == 201
        text = await exported(running)
        assert {change.action for change in (await taken_in(running, text, replace=True)).changes} == {"unchanged"}


async def test_models_without_their_fields_are_refused_in_a_moment() -> None:
    async with engine() as running:
        began = time.monotonic()
        with pytest.raises(InvalidConfig, match="needs type and model_name"):
            await taken_in(running, "models:\n" + "".join(f"  m{n}: {{}}\n" for n in range(20_000)))
        assert time.monotonic() - began < 15


# Knowledge in the forms of the original.


def knowledge(text: str, *known: str) -> tuple[Any, list[tuple[str, int, int]], list[str]]:
    """The section `knowledge` of a file, its problems with their places, and the paths of its warnings."""
    found = sections_of(yaml_tree.read(text.encode())[0], known or ("agents", "knowledge"), [OldDialects()])
    items = {name: item.node.plain() for name, item in found.items.get("knowledge", {}).items()}
    problems = [(one.path, one.line, one.column) for one in found.problems]
    return items, problems, [one.path for one in found.warnings]


@pytest.mark.parametrize(
    ("written", "merged"),
    [
        ("{}", {"folder": "./docs", "agents": ["clerk"]}),
        ("{clerk: }", {"folder": "./docs", "agents": ["clerk"]}),
        (
            "{clerk: {description: Rules, folder: ./docs}}",
            {"description": "Rules", "folder": "./docs", "agents": ["clerk"]},
        ),
        ("{clerk: {agents: }}", {"folder": "./docs", "agents": ["clerk"]}),
        ("{clerk: {agents: [writer]}}", {"folder": "./docs", "agents": ["writer", "clerk"]}),
        ("[{name: clerk, linked_agents: [clerk]}]", {"folder": "./docs", "linked_agents": ["clerk"]}),
    ],
)
@pytest.mark.parametrize("key", ["knowledge", "knowledge_bases"])
def test_the_folder_of_an_agent_is_a_base_of_its_name(written: str, merged: dict[str, Any], key: str) -> None:
    agents = "agents:\n  clerk: {knowledge: ./docs}"
    for text in (f"{agents}\n{key}: {written}", f"{key}: {written}\n{agents}"):
        items, problems, warnings = knowledge(text)
        assert (items, problems, warnings) == ({"clerk": merged}, [], [])


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("agents: {a: {knowledge: ./b}}\nknowledge: {a: {folder: ./c}}", [("$.agents.a.knowledge", 1, 25)]),
        ("agents: {a: {knowledge: ./b}}\nknowledge: {a: {folder: }}", [("$.agents.a.knowledge", 1, 25)]),
        ("agents:\n- name: a\n  knowledge: [./b, ./c]", [("$.agents.a.knowledge", 3, 14)]),
        ("agents: {a: {knowledge: {folder: ./b}}}", [("$.agents.a.knowledge", 1, 25)]),
        ("agents: {a: {knowledge: 5}}", [("$.agents.a.knowledge", 1, 25)]),
        ("knowledge: {a: {}}\nknowledge_bases: {a: {}}", [("$.knowledge.a", 2, 19)]),
    ],
)
def test_a_folder_that_is_none_or_contradicts_another_is_told(text: str, problems: list[Any]) -> None:
    assert knowledge(text)[1] == problems


def test_an_agent_without_a_folder_or_an_engine_without_knowledge_has_none() -> None:
    assert knowledge("agents: {a: {knowledge: }, b: {knowledge: ''}}") == ({}, [], [])
    found = knowledge("agents: {a: {knowledge: ./b}}\nknowledge_bases: {a: {}}\nknowledge: {}", "agents")
    assert found == ({}, [], ["$.agents.a.knowledge", "$.knowledge_bases", "$.knowledge"])


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


async def taken_in(running: Engine, text: str, **options: Any) -> import_export.Plan:
    return await import_export.take_in(running, text.encode(), **options)


async def exported(running: Engine) -> str:
    return import_export.text_of((await running.db.read(import_export.export, running))[0])


NAMES = ["a", "b.c", "1e3", "yes"]
WORDS = st.lists(st.text(LETTERS, min_size=1, max_size=8), max_size=3)
ASCII = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
HEADERS = st.sampled_from(["X-Org", "X-a", "Accept-Language"])
KEYS = st.sampled_from(["sk-0123456789abcdef", "${SOME_KEY}", "${SOME_KEY:-sk-default}", "Bearer ${SOME_KEY}"])


def fields(always: dict[str, Any], **sometimes: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(always, optional=sometimes)


AGENTS = fields(
    {},
    description=TEXTS,
    system=TEXTS,
    model=st.none() | st.sampled_from([*NAMES, "missing"]),
    lifecycle=st.sampled_from(["persistent", "spawn"]),
    max_steps=st.integers(1, 500),
    temperature=st.none() | st.floats(0, 2),
    max_tokens=st.none() | st.integers(1, 10_000_000),
    stop_sequences=WORDS,
    tools=WORDS,
    confirm_before=WORDS,
    can_spawn=st.lists(st.sampled_from(NAMES), max_size=3),
    mcp_servers=st.lists(st.sampled_from(NAMES), max_size=3),
    capabilities=st.lists(
        fields(
            {"type": st.just("memory"), "config": fields({"max_entries": st.integers(1, 9)})}, enabled=st.booleans()
        ),
        max_size=1,
    ),
)
MODELS = fields(
    {"type": st.sampled_from(["ollama", "anthropic"]), "model_name": TEXTS.filter(bool)},
    base_url=st.sampled_from(["", "https://a.example/v1"]),
    api_key=st.just("") | KEYS,
    pricing_input=st.none() | st.floats(0, 1000),
    fallback=st.lists(st.sampled_from(NAMES), max_size=2, unique=True),
)
TOOLS = fields(
    {
        "url": st.sampled_from(["https://a.example/{{a}}?x={{b_c}}", "${ERP}/x", "http://127.0.0.1:9/"]),
        "method": st.sampled_from(["POST", "PUT", "PATCH", "DELETE"]),
    },
    description=TEXTS,
    params=st.dictionaries(TEXTS, TEXTS | st.integers() | st.floats(allow_nan=False, allow_infinity=False), max_size=3),
    body=st.none() | st.dictionaries(TEXTS, JSON, max_size=3),
    headers=st.dictionaries(HEADERS, ASCII, max_size=2),
    auth=st.none()
    | st.fixed_dictionaries({"type": st.just("bearer"), "token": KEYS})
    | st.fixed_dictionaries({"type": st.just("basic"), "username": st.just("u"), "password": st.just("") | KEYS})
    | st.fixed_dictionaries({"type": st.just("header"), "name": st.just("X-Key"), "value": KEYS}),
    parameters=st.dictionaries(
        st.sampled_from(["a", "b_c", "D-e"]),
        fields({}, description=TEXTS, required=st.booleans(), enum=st.lists(st.text(LETTERS, max_size=3), max_size=2))
        | fields({"type": st.just("array")}, default=st.lists(JSON, max_size=2)),
        max_size=2,
    ),
    forward_headers=st.lists(HEADERS, max_size=2),
    response_pointer=st.sampled_from(["", "/a/~1"]),
    timeout=st.floats(0.1, 3600) | st.integers(1, 3600),
    idempotent=st.none() | st.booleans(),
    confirmation_required=st.booleans(),
    risk=st.none() | st.sampled_from(["safe", "caution", "dangerous"]),
)
SERVERS = fields(
    {
        "type": st.sampled_from(["http", "streamable-http", "sse"]),
        "url": st.sampled_from(["http://127.0.0.1:9/", "https://a.example/x"]),
        "enabled": st.just(False),
    },
    args=st.lists(NO_NUL, max_size=3),
    env=st.dictionaries(st.sampled_from(["A", "B_c"]), NO_NUL | KEYS, max_size=2),
    headers=st.dictionaries(HEADERS, ASCII | KEYS, max_size=2),
    forward_headers=st.lists(HEADERS, max_size=2),
    auth_key=st.just("") | KEYS,
    pin=st.sampled_from(["off", "warn", "block"]),
    allow_tools=st.none() | WORDS,
    deny_tools=WORDS,
    agent_tools=st.dictionaries(st.sampled_from(NAMES), WORDS, max_size=2),
)
TIERS = st.dictionaries(
    st.text(LETTERS, min_size=1, max_size=8),
    fields({"requests": st.integers(1, 10**9)}, window=st.sampled_from(["90s", "1h30m"]))
    | st.just({"unlimited": True}),
    min_size=1,
    max_size=3,
)
RULES = TIERS.flatmap(
    lambda tiers: fields({"tiers": st.just(tiers), "default_tier": st.sampled_from(sorted(tiers))}, tier_header=HEADERS)
).flatmap(lambda rule: st.sampled_from([rule | {"key_header": "X-Org"}, rule | {"per": "ip"}]))
SCHEDULES = fields(
    {"cron": st.sampled_from(["0 9 * * MON-FRI", "*/5 * * * *"])},
    timezone=st.sampled_from(["UTC", "Europe/Berlin"]),
    missed=st.sampled_from(["skip", "once"]),
    title=TEXTS,
    message=TEXTS,
    enabled=st.booleans(),
)
WEBHOOKS = fields({"secret": KEYS}, title=TEXTS, message=TEXTS, enabled=st.booleans())
PAIRS = st.dictionaries(st.sampled_from([(0, 1), (0, 2), (1, 2)]), st.dictionaries(TEXTS, JSON, max_size=2), max_size=3)


def by_name(items: st.SearchStrategy[dict[str, Any]], most: int = 2) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(NAMES), items, max_size=most)


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    """A valid configuration with items in any of the sections."""
    models, agents, default = draw(by_name(MODELS, 4)), draw(by_name(AGENTS, 4)), draw(st.sampled_from([*NAMES, ""]))
    for name, model in models.items():
        model["fallback"] = [other for other in model.get("fallback", ()) if other in models and other != name]
    if default in models:
        models[default]["is_default"] = True
    whole = {
        "models": models,
        "tools": draw(st.dictionaries(st.sampled_from(["a", "B-c", "0x10", "yes"]), TOOLS, max_size=2)),
        "mcp_servers": draw(by_name(SERVERS)),
        "rate_limits": draw(by_name(RULES)),
        "agents": agents,
        "settings": {f"custom.{key}": value for key, value in draw(st.dictionaries(TEXTS, JSON, max_size=2)).items()},
    }
    if names := sorted(agents):
        pairs = {pair: config for pair, config in draw(PAIRS).items() if pair[1] < len(names)}
        relations = [{"source": names[a], "target": names[b], "config": config} for (a, b), config in pairs.items()]
        relations.sort(key=lambda one: (one["source"], one["target"]))
        whole["schemas"] = {"2026-01-01": {"entry_agent": names[0], "chat_enabled": True, "relations": relations}}
        task = {"agent": names[0], "schema": "2026-01-01"}
        whole["schedules"] = {name: one | task for name, one in draw(by_name(SCHEDULES)).items()}
        whole["webhooks"] = {name: one | task for name, one in draw(by_name(WEBHOOKS)).items()}
    return whole


def in_a_file(value: Any) -> Any:
    """The same with `${` escaped, but for credentials."""
    if isinstance(value, dict):
        return {key: in_a_file(one) for key, one in value.items()}
    if isinstance(value, list):
        return [in_a_file(one) for one in value]
    return escaped(value) if isinstance(value, str) and "${SOME_KEY" not in value else value


@pytest.mark.timeout(180)  # 80 engines, each with a database of its own
@settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(configurations())
async def test_export_import_export_gives_equal_bytes_and_loses_nothing(whole: dict[str, Any]) -> None:
    text = yaml_tree.write({key: items if key == "tools" else in_a_file(items) for key, items in whole.items()})
    async with engine(settings=EMPTY) as first, engine(settings=EMPTY) as second:
        await taken_in(first, text)
        have = await first.db.read(import_export.state, first)
        for key, items in whole.items():
            kind = first.sections[key].item
            for name, item in items.items():
                if kind is None:
                    assert have[key][name] == item
                    continue
                now, then = (msgspec.convert({**one, "name": name}, kind) for one in (have[key][name], item))
                for field in item.keys() - {"capabilities"}:
                    assert getattr(now, field) == getattr(then, field), (key, name, field)
        once = await exported(first)
        assert "sk-" not in once
        await taken_in(second, once)
        assert await exported(second) == once
        for running, again in ((first, text), (second, once)):
            for replace in (False, True):
                plan = await taken_in(running, again, replace=replace)
                assert {change.action for change in plan.changes} <= {"unchanged"}
        assert await exported(second) == once


async def test_every_field_of_an_item_is_in_the_file() -> None:
    text = """
models: {m: {type: ollama, model_name: x, api_key: "${KEY}"}}
tools: {t: {url: "https://a.example"}}
mcp_servers: {s: {url: "http://127.0.0.1:9/", enabled: false, auth_key: "${KEY}"}}
agents: {a: {}}
schemas: {s: {entry_agent: a}}
"""
    async with engine(settings=EMPTY) as running:
        await taken_in(running, text)
        shown, _ = await running.db.read(import_export.export, running)
        for key, items in shown.items():
            kind = running.sections[key].item
            assert kind is not None
            [item] = items.values()
            other_names = {"type", "endpoint"} if key == "tools" else set()
            assert item.keys() == {field.name for field in msgspec.structs.fields(kind)} - {"name"} - other_names


async def test_a_file_of_a_thousand_problems_is_refused_in_a_moment() -> None:
    async with engine() as running:
        lines = "".join(f"    field{n}: 1\n" for n in range(8000))
        began = time.monotonic()
        with pytest.raises(InvalidConfig, match="and 999 more"):
            parse(f"agents:\n  a:\n{lines}".encode(), running.sections, running.dialects)
        many = ", ".join(["1"] * 400)
        with pytest.raises(InvalidConfig) as caught:
            await taken_in(running, f"agents: {{a: {{tools: [{many}]}}}}")
        assert len(caught.value.details) == 20
        assert time.monotonic() - began < 15
