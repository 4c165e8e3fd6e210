"""Schemas and their relations over REST."""

import httpx
import pytest

from bytebrew.testing import served_engine

URL = "/api/v1/schemas"


async def make_agents(client: httpx.AsyncClient, *names: str) -> None:
    for name in names:
        assert (await client.post("/api/v1/agents", json={"name": name})).status_code == 201


async def test_a_schema_has_the_promised_shape() -> None:
    async with served_engine() as (_, client):
        await make_agents(client, "a", "b", "c")
        relations = [{"source": "a", "target": "b"}, {"source": "b", "target": "c", "config": {"k": 1}}]
        body = {"name": "shop", "description": "d", "entry_agent": "a", "chat_enabled": True, "relations": relations}
        made = await client.post(URL, json=body)
        assert made.status_code == 201
        answer = made.json()
        assert (await client.get(f"{URL}/shop")).json() == answer == (await client.get(f"{URL}/{answer['id']}")).json()
        assert answer in (await client.get(URL)).json()
        assert (await client.get(f"{URL}/shop/agents")).json() == ["a", "b", "c"]
    assert (answer["entry_agent"], answer["entry_agent_name"], answer["agents"]) == ("a", "a", ["a", "b", "c"])
    assert (answer["agents_count"], answer["chat_enabled"], answer["chat_last_fired_at"]) == (3, True, None)
    assert [(one["source"], one["target"], one["config"]) for one in answer["relations"]] == [
        ("a", "b", {}),
        ("b", "c", {"k": 1}),
    ]


async def test_put_and_patch_merge_and_the_name_is_fixed() -> None:
    async with served_engine() as (_, client):
        await make_agents(client, "a", "b")
        made = (await client.post(URL, json={"name": "s", "entry_agent_id": "a", "description": "d"})).json()
        for method in ("PUT", "PATCH"):
            changed = await client.request(method, f"{URL}/s", json={"chat_enabled": True, "entry_agent": "b"})
            assert changed.status_code == 200
            assert changed.json()["description"] == "d"
            assert (changed.json()["entry_agent"], changed.json()["chat_enabled"]) == ("b", True)
            assert (await client.request(method, f"{URL}/s", json={"name": "t"})).status_code == 400
        assert made["entry_agent"] == "a"


async def test_what_clients_may_do_and_see_is_off_at_first_and_goes_through_a_configuration_file() -> None:
    async with served_engine() as (_, client):
        await make_agents(client, "a")
        made = (await client.post(URL, json={"name": "s", "entry_agent": "a"})).json()
        off = {"client_tools": False, "view": "full", "approvals": "text"}
        on = {"client_tools": True, "view": "public", "approvals": "client_tool"}
        assert {name: made[name] for name in off} == off
        changed = (await client.patch(f"{URL}/s", json=on)).json()
        assert {name: changed[name] for name in on} == on
        exported = (await client.get("/api/v1/config/export")).text
        await client.patch(f"{URL}/s", json=off)
        assert (await client.post("/api/v1/config/import", content=exported)).status_code == 200
        again = (await client.get(f"{URL}/s")).json()
        assert {name: again[name] for name in on} == on
        assert (await client.patch(f"{URL}/s", json={"view": "half"})).status_code == 400
        assert (await client.patch(f"{URL}/s", json={"approvals": "none"})).status_code == 400


@pytest.mark.parametrize("name", ["Shop", "-a", "a-", "a.b", "a_b", "a" * 64, ""])
async def test_a_name_is_a_dns_label(name: str) -> None:
    async with served_engine() as (_, client):
        answer = await client.post(URL, json={"name": name, "entry_agent": "demo"})
    assert (answer.status_code, answer.json()["details"][0]["path"]) == (400, "$.name")


async def test_an_entry_agent_must_exist() -> None:
    async with served_engine() as (_, client):
        answer = await client.post(URL, json={"name": "s", "entry_agent": "nobody"})
        assert (answer.status_code, answer.json()["details"][0]["path"]) == (422, "$.entry_agent")
        answer = await client.post(URL, json={"name": "s"})
        assert (answer.status_code, answer.json()["details"][0]["path"]) == (400, "$.entry_agent")


async def test_relations_are_made_replaced_and_removed_and_close_no_circle() -> None:
    async with served_engine() as (_, client):
        await make_agents(client, "a", "b", "c")
        await client.post(URL, json={"name": "s", "entry_agent": "a"})
        url = f"{URL}/s/agent-relations"
        made = await client.post(url, json={"source": "a", "target": "b"})
        assert made.status_code == 201
        one = f"{url}/{made.json()['id']}"
        await client.post(url, json={"source": "b", "target": "c"})
        for pair, status in ((("a", "b"), 409), (("a", "a"), 400), (("c", "a"), 400), (("a", "x"), 422)):
            answer = await client.post(url, json={"source": pair[0], "target": pair[1]})
            assert answer.status_code == status
        assert (await client.put(one, json={"source": "a", "target": "c", "config": {"k": 1}})).status_code == 204
        assert (await client.get(one)).json() == {**made.json(), "target": "c", "config": {"k": 1}}
        assert (await client.delete(one)).status_code == 204
        assert (await client.get(one)).status_code == 404
        assert [(row["source"], row["target"]) for row in (await client.get(url)).json()] == [("b", "c")]


async def test_a_deleted_schema_leaves_its_sessions_readable() -> None:
    async with served_engine() as (_, client):
        chat = await client.post(f"{URL}/demo/chat", json={"message": "hi", "stream": False})
        assert (await client.get(f"{URL}/demo")).json()["chat_last_fired_at"] is not None
        assert (await client.delete(f"{URL}/demo")).status_code == 204
        session = (await client.get(f"/api/v1/sessions/{chat.json()['session_id']}")).json()
        assert session["schema"] == "demo"
        assert (await client.post(f"{URL}/demo/chat", json={"message": "hi"})).status_code == 404
