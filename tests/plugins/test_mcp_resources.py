"""Resources and prompts of MCP servers: listed for operators, and read by agents where that is opted in."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.plugins.test_mcp import PATH, World, world
from tests.tables import check_refusal

VERSIONS = ("2025-11-25", "2026-07-28")
NOTES = {"uri": "note:///1", "name": "one", "title": "One", "mimeType": "text/plain", "size": 5}
HOW = {
    "offers": {"resources": {}, "prompts": {}},
    "lists": {
        "resources/list": [
            {"resources": [NOTES, {"name": "no uri"}, "no resource"], "nextCursor": "1"},
            {"resources": [{"uri": "note:///2", "name": "t\u202ewo", "size": -1}]},
        ],
        "prompts/list": [
            {"prompts": [{"name": "greet", "arguments": [{"name": "who", "required": True}, {"name": "how"}]}, {}]}
        ],
    },
    "resources": {"note:///1": {"uri": "note:///1", "mimeType": "text/plain", "text": "hello"}},
}


@asynccontextmanager
async def serving(how: dict[str, Any] | None = None, **body: Any) -> AsyncIterator[World]:
    async with world(probe_timeout="0.3") as w:
        server = await w.add(how=HOW if how is None else how, **body)
        assert server["status"]["status"] == "connected"
        yield w


@pytest.mark.parametrize("version", VERSIONS)
async def test_resources_and_prompts_are_listed_by_page(version: str) -> None:
    async with serving({**HOW, "versions": [version]}) as w:
        first = (await w.client.get(f"{PATH}/double/resources")).json()
        assert first == {
            "data": [
                {
                    "uri": "note:///1",
                    "name": "one",
                    "title": "One",
                    "description": "",
                    "mime_type": "text/plain",
                    "size": 5,
                }
            ],
            "next": "1",
        }
        second = (await w.client.get(f"{PATH}/double/resources", params={"after": first["next"]})).json()
        assert ([(one["name"], one["size"]) for one in second["data"]], second["next"]) == (
            [("t[U+202E]wo", None)],
            None,
        )
        prompts = (await w.client.get(f"{PATH}/double/prompts")).json()
        arguments = [
            {"name": "who", "description": "", "required": True},
            {"name": "how", "description": "", "required": False},
        ]
        assert prompts["data"] == [{"name": "greet", "title": "", "description": "", "arguments": arguments}]


async def test_a_server_without_them_has_empty_lists_and_one_that_is_away_says_so() -> None:
    async with serving({}) as w:
        for kind in ("resources", "prompts"):
            assert (await w.client.get(f"{PATH}/double/{kind}")).json() == {"data": [], "next": None}
            assert (await w.client.get(f"{PATH}/nobody/{kind}")).status_code == 404
        await w.client.patch(f"{PATH}/double", json={"enabled": False})
        refused = await w.client.get(f"{PATH}/double/resources")
        assert (refused.status_code, check_refusal(refused)["error"]) == (409, "not_connected")


async def test_a_server_that_refuses_its_list_is_told_of_without_its_credentials() -> None:
    how: dict[str, Any] = {"offers": {"resources": {}}}
    async with serving(how, env={"API_KEY": "s3cr3t-value-42"}) as w:
        assert (await w.client.get(f"{PATH}/double/resources")).json() == {"data": [], "next": None}


@pytest.mark.parametrize("version", VERSIONS)
async def test_agents_list_and_read_resources_where_that_is_opted_in(version: str) -> None:
    async with serving({**HOW, "versions": [version]}, resources=True, allow_tools=["echo"]) as w:
        assert await w.offered() == ["double__list_resources", "double__read_resource", "echo"]
        listed = json.loads((await w.ask("double__list_resources"))["output"])
        assert (listed["resources"][0]["uri"], listed["nextCursor"]) == ("note:///1", "1")
        again = json.loads((await w.ask("double__list_resources", cursor="1"))["output"])
        assert [one["uri"] for one in again["resources"]] == ["note:///2"]
        read = await w.ask("double__read_resource", uri="note:///1")
        assert (read["output"], read["has_error"]) == ("[resource note:///1]\nhello", False)
        unknown = await w.ask("double__read_resource", uri="note:///9")
        assert unknown["has_error"]
        assert unknown["output"].startswith("MCP server 'double' refuses the call")
        for input in ({}, {"uri": 1}, {"uri": "x" * 5000}, {"uri": "a:b", "more": "c"}):
            assert (await w.ask("double__read_resource", **input))["has_error"]


async def test_they_are_not_there_without_being_opted_in_or_offered() -> None:
    async with serving() as w:
        assert not [name for name in await w.offered() if "resource" in name]
    async with serving({}, resources=True) as w:
        assert not [name for name in await w.offered() if "resource" in name]


async def test_a_person_can_be_asked_before_a_resource_is_read() -> None:
    async with serving(resources=True) as w:
        agent = {"confirm_before": ["double__read_resource"]}
        patched = await w.client.patch("/api/v1/agents/test", json=agent)
        assert (patched.status_code, patched.json()["warnings"]) == (200, [])
