"""Agents over REST."""

import httpx
import pytest

from bytebrew.testing import served_engine

URL = "/api/v1/agents"


async def make(client: httpx.AsyncClient, name: str, **fields: object) -> dict[str, object]:
    answer = await client.post(URL, json={"name": name, **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, object] = answer.json()
    return made


async def test_put_and_patch_change_what_is_sent_and_keep_the_rest() -> None:
    async with served_engine() as (_, client):
        made = await make(client, "a", system="one", temperature=0.5, tools=["x"], max_tokens=10)
        for method in ("PUT", "PATCH"):
            answer = await client.request(method, f"{URL}/a", json={"system": method, "temperature": None})
            assert answer.status_code == 200
            expected = {**made, "system": method, "system_prompt": method, "temperature": None}
            assert {**answer.json(), "updated_at": made["updated_at"]} == expected
        assert (await client.put(f"{URL}/a", json={"name": "b"})).status_code == 400
        assert (await client.get(f"{URL}/{made['id']}")).json()["name"] == "a"


async def test_the_originals_names_of_fields_are_read() -> None:
    async with served_engine() as (_, client):
        made = await make(client, "a", system_prompt="hello", model_id="demo")
        assert (made["system"], made["model"], made["warnings"]) == ("hello", "demo", [])
        both = await client.post(URL, json={"name": "b", "system": "x", "system_prompt": "y"})
        assert (both.status_code, both.json()["details"][0]["path"]) == (400, "$.system_prompt")


async def test_an_agent_without_a_model_uses_the_default_one() -> None:
    async with served_engine() as (_, client):
        await make(client, "a")
        await client.post("/api/v1/models", json={"name": "m", "type": "demo", "model_name": "m", "is_default": True})
        assert (await client.get(f"{URL}/a")).json()["model"] == "m"
        assert [row["model"] for row in (await client.get(URL)).json()] == ["m", "demo"]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"name": "Upper"}, "$.name"),
        ({"name": "a" * 256}, "$.name"),
        ({"name": "a\n"}, "$.name"),
        ({"max_steps": 0}, "$.max_steps"),
        ({"max_steps": 501}, "$.max_steps"),
        ({"max_context_size": 999}, "$.max_context_size"),
        ({"temperature": 2.1}, "$.temperature"),
        ({"top_p": -0.1}, "$.top_p"),
        ({"lifecycle": "eternal"}, "$.lifecycle"),
        ({"tool_execution": "random"}, "$.tool_execution"),
        ({"tools": [1]}, "$.tools[0]"),
        ({"colour": "red"}, "$.colour"),
    ],
)
async def test_a_bad_field_is_a_400_that_names_it(
    fields: dict[str, object], path: str, shared_client: httpx.AsyncClient
) -> None:
    answer = await shared_client.post(URL, json={"name": "a", **fields})
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"
    assert answer.json()["details"][0]["path"] == path


async def test_an_agent_in_use_is_not_deleted_and_its_users_are_listed() -> None:
    async with served_engine() as (_, client):
        for name in ("entry", "helper", "lone"):
            await make(client, name)
        await make(client, "spawner", can_spawn=["lone"])
        await client.post(
            "/api/v1/schemas",
            json={"name": "s", "entry_agent": "entry", "relations": [{"source": "entry", "target": "helper"}]},
        )
        for name, user in (("entry", "s"), ("helper", "s"), ("lone", "spawner")):
            answer = await client.delete(f"{URL}/{name}")
            assert (answer.status_code, answer.json()["error"]) == (409, "conflict")
            assert [detail["message"] for detail in answer.json()["details"]] == [user]
        assert (await client.delete(f"{URL}/spawner")).status_code == 204
        assert (await client.delete(f"{URL}/lone")).status_code == 204
        assert (await client.delete(f"{URL}/lone")).status_code == 404


async def test_a_name_is_taken_once() -> None:
    async with served_engine() as (_, client):
        await make(client, "a")
        answer = await client.post(URL, json={"name": "a"})
    assert (answer.status_code, answer.json()["error"]) == (409, "conflict")
