"""The ETag of each item of the configuration: two editors do not overwrite one another."""

from pathlib import Path
from typing import Any

import pytest

from bytebrew.testing import client as client_of
from bytebrew.testing import engine as running

API = "/api/v1"
ITEMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "models": ({"type": "demo", "model_name": "m"}, {"model_name": "n"}),
    "agents": ({"system": "one"}, {"system": "two"}),
    "schemas": ({"entry_agent": "demo"}, {"description": "two"}),
    "tools": ({"method": "GET", "url": "https://example.com"}, {"description": "two"}),
    "mcp-servers": ({"type": "http", "url": "https://example.com/mcp"}, {"url": "https://example.com/two"}),
}
"""A body that creates an item, and one that changes it, by collection."""


@pytest.mark.parametrize("path", ITEMS)
async def test_a_change_with_an_old_etag_is_refused_and_changes_nothing(path: str) -> None:
    body, change = ITEMS[path]
    async with running() as engine, client_of(engine) as client:
        assert (await client.post(f"{API}/{path}", json={"name": "a", **body})).status_code == 201
        first = await client.get(f"{API}/{path}/a")
        assert first.headers["etag"] == '"1"'
        second = await client.put(f"{API}/{path}/a", json=change, headers={"If-Match": first.headers["etag"]})
        assert (second.status_code, second.headers["etag"]) == (200, '"2"'), second.text
        for method, sent in (("PUT", body), ("PATCH", body), ("DELETE", None)):
            late = await client.request(method, f"{API}/{path}/a", json=sent, headers={"If-Match": '"1"'})
            if late.status_code == 405:
                continue
            assert (late.status_code, late.json()["error"]) == (412, "precondition_failed"), late.text
            assert late.headers["etag"] == '"2"'
            assert "version 2" in late.json()["message"]
        now = await client.get(f"{API}/{path}/a")
        assert now.json() | {"status": None} == second.json() | {"status": None}  # a server's changes by itself
        assert (await client.get(f"{API}/{path}/a/versions")).json()["total"] == 2
        gone = await client.delete(f"{API}/{path}/a", headers={"If-Match": 'W/"1", "2"'})
        assert gone.status_code == 204
        assert "etag" not in gone.headers


async def test_the_id_of_an_item_and_any_version_match_too() -> None:
    async with running() as engine, client_of(engine) as client:
        agent = (await client.post(f"{API}/agents", json={"name": "a"})).json()
        by_id = f"{API}/agents/{agent['id']}"
        assert (await client.get(by_id)).headers["etag"] == '"1"'
        assert (await client.put(by_id, json={"system": "x"}, headers={"If-Match": '"1"'})).status_code == 200
        assert (await client.put(by_id, json={"system": "y"}, headers={"If-Match": '"1"'})).status_code == 412
        assert (await client.put(by_id, json={"system": "y"}, headers={"If-Match": "*"})).headers["etag"] == '"3"'
        unchanged = await client.put(by_id, json={"system": "y"}, headers={"If-Match": '"3"'})
        assert unchanged.headers["etag"] == '"3"'
        assert (await client.put(f"{API}/agents/nobody", json={}, headers={"If-Match": '"1"'})).status_code == 404


async def test_a_capability_is_a_new_version_of_its_agent() -> None:
    async with running() as engine, client_of(engine) as client:
        await client.post(f"{API}/agents", json={"name": "a"})
        await client.post(f"{API}/agents/a/capabilities", json={"type": "memory"})
        assert (await client.get(f"{API}/agents/a")).headers["etag"] == '"2"'
        [row] = [one for one in (await client.get(f"{API}/agents")).json() if one["name"] == "a"]
        assert row["version"] == 2


async def test_what_the_configuration_file_has_says_so(tmp_path: Path) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text("agents:\n  clerk:\n    system: Hello\nschemas:\n  shop:\n    entry_agent: clerk\n")
    owner = {"file": "shop.yaml", "line": 2}
    async with running(settings={"BYTEBREW_CONFIG": str(file)}) as engine, client_of(engine) as client:
        await client.post(f"{API}/agents", json={"name": "own", "confirm_before": ["pay"], "can_spawn": ["nobody"]})
        rows = {one["name"]: one for one in (await client.get(f"{API}/agents")).json()}
        assert rows["clerk"]["managed_by"] == owner
        assert rows["own"]["managed_by"] is None
        assert (rows["own"]["confirm_before"], rows["own"]["can_spawn"]) == (["pay"], ["nobody"])
        assert any("'nobody'" in words for words in rows["own"]["warnings"])
        agent = (await client.get(f"{API}/agents/clerk")).json()
        assert agent["managed_by"] == owner
        again = await client.put(f"{API}/agents/clerk", json=agent)
        assert again.status_code == 200, again.text
        assert (await client.get(f"{API}/agents/clerk/versions")).json()["managed_by"] == owner
        assert (await client.get(f"{API}/agents/own/versions")).json()["managed_by"] is None
        assert (await client.get(f"{API}/schemas/shop/versions")).json()["managed_by"] == {
            "file": "shop.yaml",
            "line": 5,
        }
        file.write_text("agents:\n  own:\n    system: Mine\n")
        assert (await client.post(f"{API}/config/reload")).status_code == 200
        assert (await client.get(f"{API}/agents/clerk")).json()["managed_by"] is None
        assert (await client.get(f"{API}/agents/own")).json()["managed_by"] == {"file": "shop.yaml", "line": 2}
