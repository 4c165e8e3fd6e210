"""A UUID is the same id in capital letters (RFC 9562 section 4)."""

import asyncio
from typing import Any

from bytebrew import MessageDelta, ToolCall
from bytebrew.base.formats import canonical_id, is_uuid, new_uuid
from bytebrew.testing import ScriptedProvider, chat, providing, scripted_schema, served_engine


def test_a_uuid_in_capital_letters_is_one_and_another_text_stays_as_it_is() -> None:
    made = new_uuid()
    assert is_uuid(made.upper())
    assert canonical_id(made.upper()) == made
    assert canonical_id("Conf_ABC") == "Conf_ABC"


async def test_a_session_is_the_same_by_either_form() -> None:
    made = new_uuid()
    async with served_engine() as (_, client):
        for form in (made.upper(), made, made.upper()):
            events = await chat(client, "demo", "Hi", session_id=form)
            assert f'"session_id":"{made}"' in events[-1].data
        session = (await client.get(f"/api/v1/sessions/{made.upper()}")).json()
        assert (session["id"], session["message_count"]) == (made, 6)
        assert [row["id"] for row in (await client.get("/api/v1/sessions")).json()["data"]] == [made]
        calls = await client.get(f"/api/v1/audit/tool-calls?session_id={made.upper()}")
        assert calls.status_code == 200
        assert (await client.post(f"/api/v1/sessions/{made.upper()}/cancel")).status_code == 204
        assert (await client.delete(f"/api/v1/sessions/{made.upper()}")).status_code == 204


async def test_whatever_has_a_uuid_is_found_by_either_form() -> None:
    async with served_engine() as (_, client):
        agent = (await client.post("/api/v1/agents", json={"name": "a"})).json()
        relation = {"source": agent["id"].upper(), "target": "demo"}
        schema = {"name": "s", "entry_agent": agent["id"].upper(), "relations": [relation]}
        made: dict[str, Any] = {
            "agents": agent,
            "schemas": (await client.post("/api/v1/schemas", json=schema)).json(),
            "knowledge-bases": (await client.post("/api/v1/knowledge-bases", json={"name": "b"})).json(),
            "mcp-servers": (
                await client.post("/api/v1/mcp-servers", json={"name": "m", "url": "http://[::1]:1"})
            ).json(),
        }
        assert made["schemas"]["entry_agent"] == "a"
        for path, thing in made.items():
            answer = await client.get(f"/api/v1/{path}/{thing['id'].upper()}")
            assert (answer.status_code, answer.json()["id"]) == (200, thing["id"]), path
        [relation] = made["schemas"]["relations"]
        answer = await client.get(f"/api/v1/schemas/s/agent-relations/{relation['id'].upper()}")
        assert answer.json() == relation
        linked = await client.post(f"/api/v1/knowledge-bases/b/agents/{agent['id'].upper()}")
        assert linked.status_code == 200


async def test_a_user_whose_id_is_a_uuid_in_capital_letters_is_found_as_it_is_written() -> None:
    user = new_uuid().upper()
    model = ScriptedProvider([ToolCall("current_time", {})], [MessageDelta(content="Now.")])
    async with served_engine(providing(model)) as (running, client):
        await scripted_schema(running, tools=("current_time",))
        await chat(client, "test", "Hi", user_sub=user)
        for path in (f"audit/tool-calls?user_id={user}", f"sessions?user_sub={user}"):
            assert (await client.get(f"/api/v1/{path}")).json()["total"] == 1, path


async def test_a_search_finds_a_file_by_its_name_and_by_its_id_in_either_form() -> None:
    async with served_engine() as (_, client):
        url = "/api/v1/knowledge-bases/b"
        await client.post("/api/v1/knowledge-bases", json={"name": "b"})
        file = (await client.post(f"{url}/files", files={"file": ("a.txt", b"Apples")})).json()
        async with asyncio.timeout(20):
            while (await client.get(f"{url}/files/{file['id']}")).json()["status"] != "ready":
                await asyncio.sleep(0.05)
        for text, count in ((file["id"], 1), (file["id"].upper(), 1), ("a.txt", 1), ("A.TXT", 0), (new_uuid(), 0)):
            found = await client.get(f"{url}/search", params={"q": "apples", "file": text})
            assert len(found.json()["results"]) == count, text


async def test_what_get_gives_is_taken_back_by_a_client_that_writes_uuids_in_capitals() -> None:
    async with served_engine() as (_, client):
        await client.post("/api/v1/agents", json={"name": "a"})
        relation = {"source": "a", "target": "demo"}
        await client.post("/api/v1/schemas", json={"name": "s", "entry_agent": "a", "relations": [relation]})
        for url in ("/api/v1/agents/a", "/api/v1/schemas/s"):
            before = (await client.get(url)).json()
            ids = {name: value.upper() for name, value in before.items() if name == "id" or name.endswith("_id")}
            rows = [
                {**one, "id": one["id"].upper(), "schema_id": one["schema_id"].upper()}
                for one in before.get("relations", [])
            ]
            answer = await client.put(url, json=before | ids | ({"relations": rows} if rows else {}))
            assert answer.status_code == 200, answer.text
            after = (await client.get(url)).json()
            assert after | {"updated_at": ""} == before | {"updated_at": ""}
        shouted = {"system": before["id"].upper()}
        await client.put("/api/v1/agents/a", json={"system": before["id"]})
        agent = (await client.get("/api/v1/agents/a")).json()
        assert (await client.put("/api/v1/agents/a", json=agent | shouted)).json()["system"] == before["id"].upper()
