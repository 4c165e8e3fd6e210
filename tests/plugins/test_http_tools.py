"""HTTP tools: the request that a definition makes of arguments, and what a model is told of the answer."""

import asyncio
import gzip
from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

import anyio
import msgspec
import pytest
from bytebrew_http_tools.definition import Definition, NewHttpTool, merged
from bytebrew_http_tools.store import Stored
from bytebrew_http_tools.tool import MAX_BYTES, DeclaredTool
from hypothesis import given, settings
from hypothesis import strategies as st

from bytebrew import Call, Http, InvalidRequest, ToolCall, ToolError
from bytebrew.conversation.tools.tool_calls import run_tool
from tests.upstream import Act, Seen, Step, client, head, refused, upstream

CALL = Call(call_id="call_1", session_id="s", turn_id="t", schema="x", agent="a", subject="user:me")
CALL = msgspec.structs.replace(CALL, headers={"x-org-id": "acme", "authorization": "Bearer bb_mine", "cookie": "c=1"})


def declared(http: Http, environment: Mapping[str, str] | None = None, **fields: Any) -> DeclaredTool:
    new = msgspec.convert({"name": "it", **fields}, NewHttpTool)
    definition, credential = merged(Definition(name="it"), new)
    return DeclaredTool(Stored(definition, (credential or "").encode(), "", ""), http, bytes.decode, environment or {})


def text(content: str | bytes, kind: str = "text/plain", **headers: Any) -> list[Step]:
    raw = content.encode() if isinstance(content, str) else content
    return [head(content_type=kind, content_length=len(raw), **headers) + raw]


async def asked(input: dict[str, Any], environment: Mapping[str, str] | None = None, **fields: Any) -> Seen:
    """The request that a call makes; {URL} in the definition's url or endpoint is the double's."""
    async with upstream(text("ok")) as double, client() as http:
        for name in fields.keys() & {"url", "endpoint"}:
            fields[name] = fields[name].replace("{URL}", double.url)
        assert await declared(http, environment, **fields).run(CALL, input) == "ok"
        (seen,) = double.requests
        return seen


async def told(answer: list[Step], **fields: Any) -> str:
    async with upstream(answer) as double, client() as http:
        return await declared(http, **{"url": double.url, **fields}).run(CALL, {})


async def failure(answer: list[Step], **fields: Any) -> str:
    with pytest.raises(ToolError) as raised:
        await told(answer, **fields)
    return str(raised.value)


def faults(**fields: Any) -> list[str]:
    with pytest.raises(InvalidRequest) as raised:
        merged(Definition(name="it"), msgspec.convert({"name": "it", **fields}, NewHttpTool))
    return [detail.path for detail in raised.value.details]


# The two dialects and the schema that a model is told.


async def test_the_map_dialect_fills_path_query_and_auth() -> None:
    seen = await asked(
        {"sku": "A 1/2"},
        {"ERP_KEY": "erp-key"},
        type="http",
        method="GET",
        url="{URL}/stock/{{sku}}",
        description="Current stock of one item",
        params={"unit": "pcs", "deep": True},
        auth={"type": "header", "name": "X-Key", "value": "${ERP_KEY}"},
        confirmation_required=False,
    )
    assert (seen.method, seen.path) == ("GET", "/stock/A%201%2F2?unit=pcs&deep=true")
    assert seen.headers["x-key"] == "erp-key"
    assert seen.body == b""


@pytest.mark.parametrize(("method", "in_body"), [("GET", False), ("HEAD", False), ("POST", True), ("DELETE", True)])
async def test_the_list_dialect_puts_arguments_into_the_query_or_the_body(method: str, in_body: bool) -> None:
    fields: dict[str, Any] = {
        "description": "Finds orders",
        "endpoint": f"{method} {{URL}}/orders",
        "params": [
            {"name": "q", "type": "string", "description": "what", "required": True},
            {"name": "n", "type": "integer", "required": False},
        ],
        "auth": {"type": "bearer", "token_env": "SHOP_TOKEN"},
    }
    async with upstream(text("")) as double, client() as http:
        fields["endpoint"] = fields["endpoint"].replace("{URL}", double.url)
        tool = declared(http, {"SHOP_TOKEN": "t"}, **fields)
        assert await tool.run(CALL, {"q": "a&b", "n": 3}) == "HTTP 200"
        assert await tool.run(CALL, {"q": "a"}) == "HTTP 200"
    first, second = double.requests
    assert first.headers["authorization"] == "Bearer t"
    assert [seen.method for seen in double.requests] == [method, method]
    if in_body:
        assert (first.path, first.json, second.json) == ("/orders", {"q": "a&b", "n": 3}, {"q": "a"})
    else:
        assert (first.path, second.path) == ("/orders?q=a%26b&n=3", "/orders?q=a")
    assert tool.input_schema == {
        "type": "object",
        "properties": {"q": {"type": "string", "description": "what"}, "n": {"type": "integer"}},
        "required": ["q"],
        "additionalProperties": False,
    }


async def test_typed_parameters_make_a_schema_and_what_is_not_typed_is_a_required_string() -> None:
    async with client() as http:
        tool = declared(
            http,
            method="POST",
            url="http://a.test/{{place}}",
            body={"{{key}}": "{{count}}", "tags": ["{{tags}}", "x-{{unit}}"]},
            headers={"X-Trace": "{{trace}}"},
            parameters={
                "count": {"type": "integer", "description": "how many"},
                "unit": {"enum": ["pcs", "kg"], "default": "pcs"},
                "tags": {"type": "array", "required": False},
            },
        )
    assert tool.input_schema["properties"] == {
        "count": {"type": "integer", "description": "how many"},
        "unit": {"type": "string", "enum": ["pcs", "kg"], "default": "pcs"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "place": {"type": "string"},
        "trace": {"type": "string"},
        "key": {"type": "string"},
    }
    assert tool.input_schema["required"] == ["count", "place", "trace", "key"]


async def test_a_body_value_that_is_one_parameter_keeps_its_type() -> None:
    kinds = {"n": "number", "b": "boolean", "l": "array", "o": "object", "opt": "string"}
    seen = await asked(
        {"n": 1.5, "b": False, "l": [1, "a"], "o": {"k": None}, "s": "1"},
        method="POST",
        url="{URL}",
        body={
            "n": "{{n}}",
            "b": "{{b}}",
            "l": "{{l}}",
            "in": {"o": ["{{o}}"]},
            "s": "{{s}}",
            "t": "n={{n}}",
            "opt": "{{opt}}",
            "c": 7,
        },
        parameters={name: {"type": kind, "required": name != "opt"} for name, kind in kinds.items()},
    )
    assert seen.json == {
        "n": 1.5,
        "b": False,
        "l": [1, "a"],
        "in": {"o": [{"k": None}]},
        "s": "1",
        "t": "n=1.5",
        "c": 7,
    }
    assert seen.headers["content-type"] == "application/json"


async def test_a_list_in_the_query_is_one_pair_for_each_of_its_items() -> None:
    seen = await asked({"id": ["1", "2"]}, url="{URL}", parameters={"id": {"type": "array"}})
    assert seen.path == "/?id=1&id=2"


async def test_an_object_in_the_query_is_its_json() -> None:
    seen = await asked(
        {"by": {"a": [1, "&"]}}, url="{URL}", params={"x": "{{by}}"}, parameters={"by": {"type": "object"}}
    )
    assert unquote(seen.path) == '/?x={"a":[1,"&"]}'


async def test_a_choice_counts_as_the_parameters_type_however_it_is_written_down() -> None:
    parameters = {"n": {"type": "integer", "enum": ["1", "2"], "default": "2"}, "s": {"enum": [1, 2]}}
    async with client() as http:
        properties = declared(http, url="http://a.test", parameters=parameters).input_schema["properties"]
    assert (properties["n"]["enum"], properties["n"]["default"], properties["s"]["enum"]) == ([1, 2], 2, ["1", "2"])
    seen = await asked({"n": 1, "s": "2"}, method="POST", url="{URL}", parameters=parameters)
    assert seen.json == {"n": 1, "s": "2"}


@pytest.mark.parametrize("value", ["nan", "inf", "-Infinity", float("nan")])
async def test_what_json_has_no_word_for_is_no_number(value: Any) -> None:
    with pytest.raises(ToolError, match="The argument 'n' is no number"):
        await asked({"n": value}, method="POST", url="{URL}", parameters={"n": {"type": "number"}})


async def test_the_operators_content_type_takes_the_place_of_ours() -> None:
    seen = await asked(
        {}, method="POST", url="{URL}", body={}, headers={"content-type": "application/merge-patch+json"}
    )
    assert seen.headers["content-type"] == "application/merge-patch+json"


@pytest.mark.parametrize(
    ("input", "words"),
    [
        ({}, "The argument 'n' is missing"),
        ({"n": "many"}, "The argument 'n' is no integer"),
        ({"n": 1, "unit": "m"}, """The argument 'unit' is none of ["pcs","kg"]"""),
        ({"n": 1, "colour": "red"}, "There is no argument 'colour'; known are n, unit"),
        ({"n": None}, "The argument 'n' is no integer"),
    ],
)
async def test_the_model_is_told_which_argument_does_not_fit(input: dict[str, Any], words: str) -> None:
    async with client() as http:
        tool = declared(
            http,
            url="http://127.0.0.1:1/{{n}}",
            parameters={"n": {"type": "integer"}, "unit": {"enum": ["pcs", "kg"], "default": "pcs"}},
        )
        with pytest.raises(ToolError) as raised:
            await tool.run(CALL, input)
    assert str(raised.value) == words


@pytest.mark.parametrize("parameter", [{"default": "pcs"}, {"required": False}])
async def test_null_for_what_may_be_left_out_is_as_if_it_were(parameter: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"method": "POST", "url": "{URL}", "parameters": {"unit": parameter}}
    assert (await asked({"unit": None}, **fields)).json == (await asked({}, **fields)).json


async def test_text_that_says_a_number_is_taken_as_one_and_the_other_way_round() -> None:
    seen = await asked({"n": "3", "s": 4}, method="POST", url="{URL}", parameters={"n": {"type": "integer"}, "s": {}})
    assert seen.json == {"n": 3, "s": "4"}


async def test_variables_come_from_the_environment_or_their_default() -> None:
    seen = await asked(
        {},
        {"SHOP": "eu"},
        method="POST",
        url="{URL}/${SHOP}/${PART:-all}",
        headers={"X-Shop": "${SHOP}"},
        body={"shop": "${SHOP}-${NONE:-}", "n": 1},
        params={"s": "${SHOP}"},
    )
    assert (seen.path, seen.headers["x-shop"], seen.json) == ("/eu/all?s=eu", "eu", {"shop": "eu-", "n": 1})


async def test_two_dollars_make_a_plain_variable_of_which_nothing_is_read(caplog: pytest.LogCaptureFixture) -> None:
    seen = await asked(
        {},
        {"SHOP": "eu"},
        method="POST",
        url="{URL}/$${SHOP}",
        headers={"X-Shop": "$${SHOP}${SHOP}"},
        body={"query": "$${SHOP:-x} $$${SHOP} $SHOP $${", "own": "$${BYTEBREW_DATA_DIR}"},
    )
    assert (unquote(seen.path), seen.headers["x-shop"]) == ("/${SHOP}", "${SHOP}eu")
    assert seen.json == {"query": "${SHOP:-x} $${SHOP} $SHOP ${", "own": "${BYTEBREW_DATA_DIR}"}
    assert "not set" not in caplog.text


async def test_variables_in_the_words_for_the_model_are_filled_in_too() -> None:
    environment = {"COMPANY": "Acme", "UNIT": "pcs"}
    parameters = {
        "unit": {"description": "as ${COMPANY} counts", "enum": ["${UNIT}", "kg"], "default": "${UNIT}"},
        "tags": {"type": "array", "default": ["${COMPANY}"]},
    }
    fields: dict[str, Any] = {"method": "POST", "description": "${COMPANY}, not $${X}", "parameters": parameters}
    async with client() as http:
        tool = declared(http, environment, url="http://a.test", **fields)
    assert tool.description == "Acme, not ${X}"
    assert tool.input_schema["properties"] == {
        "unit": {"type": "string", "description": "as Acme counts", "enum": ["pcs", "kg"], "default": "pcs"},
        "tags": {"type": "array", "items": {"type": "string"}, "default": ["Acme"]},
    }
    assert (await asked({}, environment, url="{URL}", **fields)).json == {"unit": "pcs", "tags": ["Acme"]}


# A value stays in its place.

VALUES = st.text(max_size=30) | st.sampled_from(
    ["../x", "a/b", "?q=1#f", "&k=2", "%2f%2e", "@evil", "\r\nX: y", "+ ;", "\\"]
)


@settings(max_examples=60, deadline=None)
@given(VALUES.filter(lambda text: ";" not in text and text not in ("", ".", "..")))
def test_no_value_leaves_its_segment_its_query_value_or_its_body_field(value: str) -> None:
    async def ask() -> Seen:
        return await asked(
            {"x": value}, method="POST", url="{URL}/a/{{x}}/b?q={{x}}&k=1", params={"p": "<{{x}}>"}, body={"f": "{{x}}"}
        )

    seen = asyncio.run(ask())
    path, _, query = seen.path.partition("?")
    assert [unquote(segment, errors="strict") for segment in path.split("/")] == ["", "a", value, "b"]
    assert parse_qsl(query, keep_blank_values=True, strict_parsing=True) == [
        ("q", value),
        ("k", "1"),
        ("p", f"<{value}>"),
    ]
    assert seen.json == {"f": value}
    assert seen.headers.keys() <= {
        "host",
        "accept",
        "accept-encoding",
        "connection",
        "user-agent",
        "content-type",
        "content-length",
        "via",
        "idempotency-key",
    }


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=20) | st.sampled_from(["a\r\nX-Evil: 1", "a\nb", "\0", "ok", "é"]))
def test_no_value_leaves_its_header_line(value: str) -> None:
    fits = all(" " <= letter <= "~" for letter in value)

    async def ask() -> None:
        seen = await asked({"x": value}, url="{URL}", headers={"X-Trace": "{{x}}"})
        assert seen.headers["x-trace"] == value.strip()
        assert "x-evil" not in seen.headers

    if fits:
        asyncio.run(ask())
    else:
        with pytest.raises(ToolError, match=r"printable ASCII|no Unicode"):
            asyncio.run(ask())


@pytest.mark.parametrize("value", ["", ".", "..", ";", ".;", "..;", "..;/..;/admin", "a;role=admin"])
@pytest.mark.parametrize("template", ["{{id}}", "{{id}};v=1", "{{id}}%3Bv=1"])
async def test_a_value_that_would_name_another_resource_is_refused(value: str, template: str) -> None:
    with pytest.raises(ToolError, match="The argument 'id' cannot be"):
        await asked({"id": value}, method="DELETE", url=f"{{URL}}/items/{template}")


async def test_the_template_may_have_parameters_in_its_path_and_a_query_any_value() -> None:
    seen = await asked({"x": "a", "y": "1;2"}, url="{URL}/p/{{x}};v={{x}}/..;v={{x}}?q={{y}};b")
    assert seen.path == "/p/a;v=a/..;v=a?q=1%3B2;b"


@pytest.mark.parametrize("value", ["a/b", "u@h", "h?x", "h#x", "h\\x", "h x", "h\r\nx", "", "h%2f", "é.test"])
async def test_a_value_in_the_host_is_a_host(value: str) -> None:
    with pytest.raises(ToolError, match="is no host"):
        await asked({"h": value}, url="http://{{h}}/x", allow_private=True)


async def test_text_that_is_no_unicode_and_two_fields_of_one_name_are_refused() -> None:
    with pytest.raises(ToolError, match="no Unicode"):
        await asked({"x": "\ud800"}, url="{URL}/{{x}}")
    with pytest.raises(ToolError, match="Two fields would be called 'admin'"):
        await asked({"k": "admin"}, method="POST", url="{URL}", body={"admin": False, "{{k}}": True})


# Who the engine says it is.


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        ({"type": "bearer", "token": "t0ken"}, "authorization", "Bearer t0ken"),
        ({"type": "bearer", "token": "${KEY}"}, "authorization", "Bearer from-env"),
        (
            {"type": "basic", "username": "me", "password": "pä:ss"},
            "authorization",
            f"Basic {b64encode('me:pä:ss'.encode()).decode()}",
        ),
        ({"type": "header", "name": "X-Key", "value": "Token ${KEY}"}, "x-key", "Token from-env"),
    ],
)
async def test_each_kind_of_auth_sends_its_header(auth: dict[str, str], header: str, value: str) -> None:
    seen = await asked({}, {"KEY": "from-env"}, url="{URL}", auth=auth)
    assert seen.headers[header] == value


async def test_headers_of_the_chat_request_are_passed_on_by_name_and_never_over_the_operators_own() -> None:
    assert "x-org-id" not in (await asked({}, url="{URL}")).headers
    seen = await asked({}, url="{URL}", forward_headers=["X-Org-Id", "X-Absent", "Authorization"])
    assert (seen.headers["x-org-id"], seen.headers["authorization"]) == ("acme", "Bearer bb_mine")
    seen = await asked(
        {},
        url="{URL}",
        forward_headers=["X-Org-Id", "Authorization"],
        headers={"x-org-id": "own"},
        auth={"type": "bearer", "token": "own"},
    )
    assert (seen.headers["x-org-id"], seen.headers["authorization"]) == ("own", "Bearer own")


async def test_a_credential_that_was_passed_on_is_masked_in_the_answer() -> None:
    passed = ["Authorization", "X-Org-Id"]
    assert await told(text("Bearer bb_mine of acme"), forward_headers=passed) == "*** of acme"


@pytest.mark.parametrize(
    "auth", [{"type": "bearer", "token": "s3cr3t-key"}, {"type": "basic", "username": "u", "password": "s3cr3t-key"}]
)
async def test_an_answer_that_repeats_the_credential_is_told_without_it(auth: dict[str, str]) -> None:
    encoded = b64encode(b"u:s3cr3t-key").decode()
    answer = f"you sent s3cr3t-key {encoded if auth['type'] == 'basic' else ''}"
    for said in (await told(text(answer), auth=auth), await failure(refused(500, answer), auth=auth)):
        assert "you sent ***" in said
        assert encoded not in said


@pytest.mark.parametrize(
    ("secret", "answer"),
    [
        ("correct horse battery", "you sent correct horse battery"),
        ("a/b+c=d&e f", "you sent a%2Fb%2Bc%3Dd%26e%20f"),
        ('quo"te\\d-key', 'you sent quo\\"te\\\\d-key'),
    ],
    ids=["words", "in a url", "in json"],
)
async def test_a_credential_is_masked_whole_and_however_it_is_written(secret: str, answer: str) -> None:
    for auth in (
        {"type": "header", "name": "X-Key", "value": secret},
        {"type": "basic", "username": "u", "password": secret},
    ):
        assert await told(text(answer), auth=auth) == "you sent ***"


@pytest.mark.parametrize("field", ["headers", "params"])
async def test_an_answer_that_repeats_a_variable_with_a_credential_is_told_without_it(field: str) -> None:
    async with upstream(text("you sent s3cr3t-key to acme")) as double, client() as http:
        fields = {field: {"X-API-Key": "Key ${KEY}", "org": "${ORG}"}}
        tool = declared(http, {"KEY": "s3cr3t-key", "ORG": "acme"}, url=double.url, **fields)
        assert await tool.run(CALL, {}) == "you sent *** to acme"
        assert "s3cr3t-key" in f"{double.requests[0].path} {double.requests[0].headers}"


HOOK = "/hooks/T0/s3cr3t-key"
ECHO: list[dict[str, Any]] = [
    {"url": "{URL}/stock?api_key=${KEY}"},
    {"url": "{URL}/stock?${QUERY}"},
    {"url": "{URL}/hooks/${KEY}"},
    {"url": "${HOOK}"},
    {"method": "POST", "body": {"in": [{"api_key": "${KEY}"}]}},
    {"headers": {"X-Token": "${KEY}"}},
    {"params": {"token": "${KEY}"}},
    {"auth": {"type": "basic", "username": "${KEY}"}},
]


@pytest.mark.parametrize("fields", ECHO)
@pytest.mark.parametrize("status", [200, 404])
async def test_what_a_variable_brought_into_the_request_is_blotted_out_wherever_it_stood(
    fields: dict[str, Any], status: int
) -> None:
    answer = f"Cannot serve {HOOK}" if "HOOK" in str(fields) else "Cannot serve s3cr3t-key"
    async with upstream(refused(status, answer)) as double, client() as http:
        url = fields.get("url", "{URL}").replace("{URL}", double.url)
        environment = {"KEY": "s3cr3t-key", "QUERY": "api_key=s3cr3t-key", "HOOK": f"{double.url}{HOOK}"}
        try:
            said = await declared(http, environment, **{**fields, "url": url}).run(CALL, {})
        except ToolError as error:
            said = str(error)
    assert "s3cr3t-key" in str(double.requests[0]) or "auth" in fields
    assert said.endswith('"Cannot serve ***"')


async def test_the_host_a_default_and_a_short_value_are_told() -> None:
    async with upstream(text("page 1 of http://127.0.0.1, by default-unit")) as double, client() as http:
        environment = {"BASE": double.url, "HOST": "127.0.0.1", "ONE": "1"}
        for url in ("${BASE}", double.url.replace("127.0.0.1", "${HOST}")):
            tool = declared(http, environment, url=url, params={"page": "${ONE}", "unit": "${UNIT:-default-unit}"})
            assert await tool.run(CALL, {}) == "page 1 of http://127.0.0.1, by default-unit"


@pytest.mark.parametrize(
    "written",
    [
        r"abc\/d\u00E9f+\"gh=secret",
        r"abc/d\u00e9f\u002B\u0022gh\u003Dsecret",
        r"abc\u002fd\u00e9f+\"gh=secret",
        "abc%2fd%c3%a9f%2b%22gh%3dsecret",
    ],
)
@pytest.mark.parametrize("pointer", ["", "/token", "/none"])
async def test_a_credential_that_the_answer_escapes_is_masked_too(written: str, pointer: str) -> None:
    auth = {"type": "basic", "username": "u", "password": 'abc/déf+"gh=secret'}
    answer = text(f'{{"token": "{written}"}}', "application/json")
    said = await (failure if pointer == "/none" else told)(answer, auth=auth, response_pointer=pointer)
    assert said.endswith("***" if pointer == "/token" else '{"token": "***"}')


async def test_a_pointer_brings_no_credential_to_light() -> None:
    hidden = "".join(f"\\u{ord(letter):04x}" for letter in "s3cr3t-key")
    answer = text(f'{{"token": "{hidden}"}}', "application/json")
    assert await told(answer, auth={"type": "bearer", "token": "s3cr3t-key"}, response_pointer="/token") == "***"


# What the model is told.


async def test_json_comes_as_it_was_written() -> None:
    written = '{"price": 10.00, "big": 123456789012345678901234567890, "ü": null}'
    assert await told(text(written, "application/json; charset=utf-8")) == written


@pytest.mark.parametrize(
    ("pointer", "part"),
    [
        ("/items/1/name", "two"),
        ("/items/0", '{"name": "one", "price": 10.00}'),
        ("/items/0/price", "10.00"),
        ("/a~1b/~0", "1234567890123456789012345678901234567890"),
        ("/", "empty"),
    ],
)
async def test_a_pointer_picks_a_part(pointer: str, part: str) -> None:
    body = """{"items": [{"name": "one", "price": 10.00}, {"name": "two"}], "": "empty",
      "a/b": {"~": 1234567890123456789012345678901234567890}}"""
    assert await told(text(body, "application/json"), response_pointer=pointer) == part


async def test_a_byte_order_mark_is_no_part_of_the_answer() -> None:
    assert await told(text(b'\xef\xbb\xbf{"a": "b"}', "application/json"), response_pointer="/a") == "b"


@pytest.mark.parametrize("pointer", ["/no", "/items/2", "/items/-", "/items/00", "/items/x", "/items/0/name/x"])
async def test_a_pointer_to_nothing_is_an_error_with_the_answers_beginning(pointer: str) -> None:
    words = await failure(text('{"items": [{"name": "one"}]}', "application/json"), response_pointer=pointer)
    assert words == f'The answer has nothing at {pointer}: {{"items": [{{"name": "one"}}]}}'


@pytest.mark.parametrize("body", [b"no json", b"[" * 100_000, b'{"a": "\xff"}'])
async def test_a_pointer_into_what_is_no_json_is_an_error(body: bytes) -> None:
    assert "has nothing at /a/b" in await failure(text(body, "application/json"), response_pointer="/a/b")


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
async def test_a_refusal_is_an_error_with_its_status_and_body(status: int) -> None:
    assert await failure(refused(status, {"why": "not today"})) == f'HTTP {status}: {{"why":"not today"}}'


async def test_an_empty_answer_is_its_status() -> None:
    assert await told([head(204)]) == "HTTP 204"
    assert await told([head(304)]) == "HTTP 304"


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream", "application/pdf", "audio/text"])
async def test_what_is_no_text_is_described(kind: str) -> None:
    assert await told(text(b"\x89PNG\0", kind)) == f"[an answer of type {kind}, 5 bytes, that is no text]"


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        ("text/html; charset=ISO-8859-1", "grün".encode("latin-1")),
        ('text/plain; charset="utf-16"', "grün".encode("utf-16")),
        ("text/plain; charset=punycode", "grün".encode()),
        ("text/plain; charset=iso-8859-99", "grün".encode()),
        ("text/html; charset=iso-8859-1; level=1", "grün".encode("latin-1")),
        ("application/problem+json", "grün".encode()),
        ("application/xml", "grün".encode()),
        ("", "grün".encode()),
    ],
)
async def test_text_is_read_in_its_charset(kind: str, raw: bytes) -> None:
    assert await told(text(raw, kind)) == "grün"


@pytest.mark.parametrize("kind", ["", "text/plain", "application/json"])
async def test_what_only_says_that_it_is_text_is_described_too(kind: str) -> None:
    said = await told(text(b"GIF89a\0\1", kind))
    assert said == f"[an answer of type {kind or 'unknown'}, 8 bytes, that is no text]"


async def test_text_that_is_not_what_it_says_is_told_with_marks() -> None:
    assert await told(text(b"gr\xfcn")) == "gr\ufffdn"


async def test_a_long_answer_is_cut() -> None:
    words = await told(text(b"a" * (MAX_BYTES + 1)))
    assert words == "a" * MAX_BYTES + f"\n[cut: the answer is longer than {MAX_BYTES} bytes]"
    long = text(b"[" + b" " * MAX_BYTES + b"]", "application/json")
    assert "cannot be read as JSON" in await failure(long, response_pointer="/0")
    assert await told(text(b"a" * MAX_BYTES)) == "a" * MAX_BYTES


async def test_an_endless_answer_is_left_at_the_limit() -> None:
    async with (
        upstream([head(content_type="text/plain") + b"a" * (MAX_BYTES + 9), Act.HANG]) as double,
        client() as http,
    ):
        with anyio.fail_after(5):
            assert "[cut:" in await declared(http, url=double.url).run(CALL, {})
            await double.left.wait()


async def test_a_packed_answer_is_unpacked_to_the_limit() -> None:
    assert await told(text(gzip.compress(b"words", mtime=0), content_encoding="gzip")) == "words"
    bomb = gzip.compress(b"\0" * (MAX_BYTES * 200))
    assert len(await told(text(bomb, content_encoding="gzip"))) < MAX_BYTES + 100


@pytest.mark.parametrize(
    ("raw", "encoding", "words"),
    [
        (b"words", "br", "encoded as br, which was not asked for"),
        (b"words", "gzip", "is no gzip"),
        (gzip.compress(b"words" * 99, mtime=0)[:-9], "gzip", "gzip breaks off"),
    ],
)
async def test_an_answer_that_cannot_be_unpacked_is_an_error(raw: bytes, encoding: str, words: str) -> None:
    assert words in await failure(text(raw, content_encoding=encoding))


@pytest.mark.parametrize(
    "answer", [[Act.HANG], [head(content_type="text/plain"), *(b"a", 0.04) * 200]], ids=["silent", "dripping"]
)
async def test_the_time_limit_is_the_tools_own_and_ends_the_request(answer: list[Step]) -> None:
    async with upstream(answer) as double, client() as http:
        tool = declared(http, url=double.url, timeout=0.5)
        outcome = await run_tool(tool, ToolCall("it", {}, "call_1"), CALL, seconds=60, limit=1000)
        assert (outcome.output, outcome.has_error) == ("'it' did not finish within 0.5 s", True)
        with anyio.fail_after(1):
            await double.left.wait()


@pytest.mark.parametrize(
    "answer",
    [[Act.CLOSE], [head(content_length=9) + b"abc", Act.CLOSE], [b"SMTP ready\r\n\r\n"]],
    ids=["silent", "short", "no http"],
)
async def test_an_answer_that_breaks_is_told_to_the_model(answer: list[Step]) -> None:
    assert await failure(answer)


async def test_a_host_that_does_not_answer_is_told_without_its_url() -> None:
    async with client() as http:
        with pytest.raises(ToolError, match=r"Cannot reach http://127\.0\.0\.1:1: ") as raised:
            await declared(http, {"K": "k"}, url="http://127.0.0.1:1/x", params={"api_key": "${K}"}).run(CALL, {})
    assert "/x" not in str(raised.value)


async def test_a_url_that_cannot_be_called_is_told_without_its_query() -> None:
    async with client() as http:
        for url in ("http://h:999999/x?k=hidden", "http://[${NO:-::zz}]/x?k=hidden", "http://1.2.3.999/?k=hidden"):
            with pytest.raises(ToolError) as raised:
                await declared(http, url=url).run(CALL, {})
            assert "hidden" not in str(raised.value)


# What the core is told of the tool.


@pytest.mark.parametrize(
    ("method", "risk", "idempotent"),
    [
        ("GET", "safe", True),
        ("HEAD", "safe", True),
        ("POST", "caution", False),
        ("PUT", "caution", False),
        ("PATCH", "caution", False),
        ("DELETE", "dangerous", False),
    ],
)
async def test_the_method_tells_the_risk_unless_the_definition_does(method: str, risk: str, idempotent: bool) -> None:
    async with client() as http:
        tool = declared(http, method=method, url="http://a.test")
        own = declared(
            http,
            method=method,
            url="http://a.test",
            risk="caution",
            idempotent=not idempotent,
            timeout=7,
            confirmation_required=True,
            description="d",
        )
    assert (tool.risk, tool.idempotent, tool.confirm, tool.timeout, tool.source) == (
        risk,
        idempotent,
        False,
        30,
        "http",
    )
    assert (own.risk, own.idempotent, own.confirm, own.timeout, own.description) == (
        "caution",
        not idempotent,
        True,
        7,
        "d",
    )


# What may be written down.


@pytest.mark.parametrize(
    ("fields", "paths"),
    [
        ({}, ["$.url"]),
        ({"endpoint": "PUT /orders"}, ["$.url"]),
        ({"url": "http://me:pw@h.test"}, ["$.url"]),
        ({"url": "http://h.test/{{a b}}"}, ["$.url"]),
        ({"url": "http://h.test", "body": {}}, ["$.body"]),
        ({"url": "http://h.test", "headers": {"Host": "x"}}, ["$.headers.Host"]),
        ({"url": "http://h.test", "headers": {"X": "a\r\nY: b"}}, ["$.headers.X"]),
        ({"url": "http://h.test", "headers": {"A B": "a"}}, ["$.headers.A B"]),
        ({"url": "http://h.test", "headers": {"Authorization": "Bearer x"}}, ["$.headers.Authorization"]),
        ({"url": "http://h.test", "headers": {"Authorization": "Bearer $${x}"}}, ["$.headers.Authorization"]),
        (
            {"url": "http://h.test?api_key=x", "params": {"access_token": "x"}},
            ["$.params.access_token", "$.url.api_key"],
        ),
        ({"url": "http://h.test", "forward_headers": ["X-A", "content-length"]}, ["$.forward_headers[1]"]),
        ({"url": "http://h.test/${BYTEBREW_DATA_DIR}"}, ["$"]),
        ({"url": "http://h.test", "auth": {"type": "bearer", "token": "x${BYTEBREW_DATA_DIR}"}}, ["$"]),
        ({"url": "http://h.test", "auth": {"type": "bearer"}}, ["$.auth.token"]),
        ({"url": "http://h.test", "auth": {"type": "bearer", "token_env": "a b"}}, ["$.auth.token_env"]),
        ({"url": "http://h.test", "auth": {"type": "basic", "token": "x", "username": "u"}}, ["$.auth.token"]),
        ({"url": "http://h.test", "auth": {"type": "basic", "username": "u:v"}}, ["$.auth.username"]),
        ({"url": "http://h.test", "auth": {"type": "header", "name": "Host", "value": "x"}}, ["$.auth.name"]),
        ({"url": "http://h.test", "parameters": {"1": {}}}, ["$.parameters.1"]),
        (
            {"url": "http://h.test", "parameters": {"n": {"type": "integer", "enum": [1, "x"], "default": 3}}},
            ["$.parameters.n.enum[1]", "$.parameters.n.default"],
        ),
        ({"endpoint": "GET http://h.test/a\r\nX: b"}, ["$.url"]),
        ({"url": "${BASE}/x?api_key=x"}, ["$.url.api_key"]),
        ({"method": "GET", "endpoint": "POST http://h.test"}, ["$.method"]),
        ({"endpoint": "BREW http://h.test"}, ["$.endpoint"]),
    ],
)
def test_each_fault_of_a_definition_is_named(fields: dict[str, Any], paths: list[str]) -> None:
    assert faults(**fields) == paths
