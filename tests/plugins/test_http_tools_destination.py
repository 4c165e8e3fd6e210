"""Credentials of HTTP tools go to the destination that they were stored for, and are never sent empty."""

from typing import Any

import httpx
import pytest

from bytebrew import ToolError
from bytebrew.testing import served_engine
from tests.plugins.test_http_tools import CALL, declared
from tests.tables import check_refusal
from tests.upstream import Step, client, refused, upstream

TOOLS = "/api/v1/tools"
HOSTS = ["a.test", "b.test"]
TOOL: dict[str, Any] = {
    "name": "t",
    "url": "https://{{host}}/x",
    "parameters": {"host": {"enum": HOSTS}},
    "auth": {"type": "bearer", "token": "s3cr3t-token"},
}


async def changed(http: httpx.AsyncClient, method: str, **change: Any) -> httpx.Response:
    return await http.request(method, f"{TOOLS}/t", json=change)


WIDER = [
    {"host": {"enum": [*HOSTS, "evil.test"]}},
    {"host": {"enum": ["evil.test"]}},
    {"host": {"enum": ["${HOST}"]}},
    {"host": {}},
    {},
]


@pytest.mark.parametrize("parameters", WIDER)
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_stored_credential_goes_to_no_host_that_a_changed_enum_adds(
    method: str, parameters: dict[str, Any]
) -> None:
    async with served_engine() as (_, http):
        made = await http.post(TOOLS, json=TOOL)
        assert made.status_code == 201, made.text
        answer = await changed(http, method, parameters=parameters)
        assert answer.status_code == 400
        assert "$.auth" in [one["path"] for one in check_refusal(answer)["details"]]
        assert (await http.get(f"{TOOLS}/t")).json() == made.json()


@pytest.mark.parametrize("base", ["https://a.test", "${BASE}"])
@pytest.mark.parametrize("more", ["\\@evil.test/x", "\\.evil.test/x", "\\/@evil.test/x"])
async def test_a_stored_credential_goes_to_no_host_behind_a_backslash(base: str, more: str) -> None:
    async with served_engine() as (_, http):
        auth = {"type": "bearer", "token": "s3cr3t-token"}
        made = await http.post(TOOLS, json={"name": "t", "url": f"{base}/x", "auth": auth})
        assert made.status_code == 201, made.text
        for change in ({"url": base + more}, {"endpoint": f"GET {base}{more}"}):
            assert (await changed(http, "PUT", **change)).status_code == 400, change
        assert (await http.get(f"{TOOLS}/t")).json() == made.json()


async def test_a_url_that_a_variable_takes_behind_a_backslash_is_not_called() -> None:
    tail = "\\@127.0.0.1:9/"
    async with client() as http:
        tool = declared(http, {"BASE": f"http://a.test{tail}"}, url="${BASE}", auth={"type": "bearer", "token": "abc"})
        with pytest.raises(ToolError, match="no http or https URL"):
            await tool.run(CALL, {})


async def test_an_enum_that_loses_hosts_keeps_the_credential_and_one_that_gains_needs_it_again() -> None:
    async with served_engine() as (_, http):
        await http.post(TOOLS, json=TOOL)
        fewer = await changed(http, "PUT", parameters={"host": {"enum": ["b.test"]}})
        assert (fewer.status_code, fewer.json()["has_credential"]) == (200, True)
        more = {"host": {"enum": HOSTS}}
        assert (await changed(http, "PUT", parameters=more)).status_code == 400
        again = await changed(http, "PUT", parameters=more, auth={"type": "bearer", "token": "other-token"})
        assert again.status_code == 200


async def test_an_import_takes_a_stored_credential_to_no_host_that_an_enum_adds() -> None:
    async with served_engine() as (_, http):
        await http.post(TOOLS, json=TOOL)
        text = "tools: {t: {url: 'https://{{host}}/x', parameters: {host: {enum: [evil.test]}}, auth: {type: bearer}}}"
        answer = await http.post("/api/v1/config/import", content=text)
        assert answer.status_code == 400, answer.text
        assert (await http.get(f"{TOOLS}/t")).json()["parameters"]["host"]["enum"] == HOSTS


UNSET: list[dict[str, Any]] = [
    {"auth": {"type": "bearer", "token": "${MISSING}"}},
    {"auth": {"type": "basic", "username": "u", "password": "${MISSING}"}},
    {"auth": {"type": "basic", "username": "${MISSING}", "password": "p"}},
    {"auth": {"type": "header", "name": "X-Key", "value": "Key ${MISSING}"}},
    {"headers": {"X-Api-Key": "${MISSING}"}},
    {"params": {"access_token": "${MISSING}"}},
    {"method": "POST", "body": {"login": {"secret": ["${MISSING}"]}}},
    {"headers": {"X-Api-Key": "{{key}}"}, "parameters": {"key": {"default": "${MISSING}"}}},
    {"method": "POST", "parameters": {"keys": {"type": "array", "default": ["${MISSING}"]}}},
]


@pytest.mark.parametrize("fields", UNSET)
@pytest.mark.parametrize("environment", [{}, {"MISSING": ""}])
async def test_a_tool_whose_variable_is_not_set_is_not_called(
    fields: dict[str, Any], environment: dict[str, str]
) -> None:
    answer: list[Step] = refused(200, {})
    async with upstream(answer) as double, client() as http:
        with pytest.raises(ToolError, match="variable MISSING is not set; set it, or write"):
            await declared(http, environment, url=double.url, **fields).run(CALL, {})
        with pytest.raises(ToolError, match="variable MISSING is not set"):
            await declared(http, environment, url=f"{double.url}/${{MISSING}}").run(CALL, {})
    assert double.connections == 0


async def test_a_stored_credential_with_a_variable_in_it_waits_for_the_variable() -> None:
    async with served_engine() as (_, http), upstream(refused(200, {})) as double:
        auth = {"type": "header", "name": "X-Key", "value": "Key ${SURELY_MISSING}"}
        await http.post(TOOLS, json={"name": "t", "url": double.url, "auth": auth})
        tried = (await http.post(f"{TOOLS}/t/test")).json()
        assert tried["has_error"]
        assert "SURELY_MISSING is not set" in tried["output"]
    assert double.connections == 0


async def test_a_default_of_nothing_is_no_credential_but_may_be_any_other_value() -> None:
    async with upstream(refused(200, {})) as double, client() as http:
        with pytest.raises(ToolError, match="its bearer credential is empty"):
            await declared(http, {}, url=double.url, auth={"type": "bearer", "token": "${MISSING:-}"}).run(CALL, {})
        assert double.connections == 0
        await declared(http, {}, url=double.url, params={"shop": "${MISSING:-}"}).run(CALL, {})
    assert double.requests[0].path.endswith("?shop=")
