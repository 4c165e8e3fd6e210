"""A key that is stored can be removed: `null` does it, on every resource that has one."""

from typing import Any

import pytest

from bytebrew.testing import served_engine
from tests.tables import check_refusal, installed

FIELDS = {"has_api_key": "api_key", "has_auth_key": "auth_key", "has_credential": "auth"}
MADE: dict[str, dict[str, Any]] = {
    "has_api_key": {"name": "m", "type": "openai_compatible", "model_name": "x", "api_key": "k"},
    "has_auth_key": {"name": "s", "url": "http://127.0.0.1:1/", "auth_key": "k", "enabled": False},
    "has_credential": {"name": "t", "url": "http://127.0.0.1:1/", "auth": {"type": "bearer", "token": "k"}},
}


def resources() -> dict[str, str]:
    """The path of each resource that shows whether it has a key, by the field that does."""
    found = {}
    for route in installed():
        if route.method == "PATCH" and route.answer is not None:
            for name in route.answer.__struct_fields__:
                if name.startswith("has_") and name != "has_knowledge":
                    found[name] = route.path
    return found


def test_every_resource_with_a_key_is_walked() -> None:
    assert resources().keys() == FIELDS.keys()


@pytest.mark.parametrize("how", ["PUT", "PATCH", "import"])
@pytest.mark.parametrize(("shows", "field"), FIELDS.items())
async def test_null_removes_a_key_and_nothing_else_does(shows: str, field: str, how: str) -> None:
    collection = resources()[shows].rpartition("/")[0]
    section = collection.rpartition("/")[2].replace("-", "_")
    async with served_engine() as (_, client):
        body = MADE[shows]
        made = await client.post(collection, json=body)
        assert (made.status_code, made.json()[shows]) == (201, True), made.text
        url = f"{collection}/{body['name']}"

        async def write(value: Any) -> bool:
            if how == "import":
                answer = await client.post("/api/v1/config/import", json={section: {body["name"]: {field: value}}})
            else:
                answer = await client.request(how, url, json={field: value})
            assert answer.status_code == 200, answer.text
            found: bool = (await client.get(url)).json()[shows]
            return found

        if how == "import" and field != "auth":  # there it is more often forgotten than meant
            file = {section: {body["name"]: {field: None}}}
            answer = await client.post("/api/v1/config/import", json=file)
            assert check_refusal(answer)["details"][0]["path"] == f"$.{section}.{body['name']}.{field}"
            assert await write("") is True
            return
        if field != "auth":
            assert await write("") is True
        assert await write(None) is False
        assert await write(body[field]) is True


async def test_a_password_can_be_removed_beside_its_user() -> None:
    async with served_engine() as (_, client):
        auth = {"type": "basic", "username": "u", "password": "p"}
        await client.post("/api/v1/tools", json={"name": "t", "url": "http://127.0.0.1:1/", "auth": auth})
        kept = await client.patch("/api/v1/tools/t", json={"auth": auth | {"password": ""}})
        gone = await client.patch("/api/v1/tools/t", json={"auth": auth | {"password": None}})
        assert (kept.json()["has_credential"], gone.json()["has_credential"]) == (True, False)
        assert gone.json()["auth"]["username"] == "u"


async def test_a_key_that_is_needed_is_not_removed_and_a_webhook_needs_its_secret() -> None:
    async with served_engine() as (_, client):
        await client.post("/api/v1/models", json={"name": "m", "type": "deepseek", "model_name": "x", "api_key": "k"})
        await client.post("/api/v1/webhooks", json={"name": "w", "agent": "demo"})
        for url, field in (("models/m", "api_key"), ("webhooks/w", "secret")):
            answer = await client.put(f"/api/v1/{url}", json={field: None})
            assert (answer.status_code, check_refusal(answer)["details"][0]["path"]) == (400, f"$.{field}"), url
        assert (await client.get("/api/v1/models/m")).json()["has_api_key"] is True


async def test_a_model_may_go_to_another_address_once_its_key_is_gone() -> None:
    async with served_engine() as (_, client):
        await client.post("/api/v1/models", json=MADE["has_api_key"])
        there = {"base_url": "http://127.0.0.1:1/v1"}
        assert (await client.put("/api/v1/models/m", json=there)).status_code == 400
        moved = await client.put("/api/v1/models/m", json=there | {"api_key": None})
        assert (moved.status_code, moved.json()["has_api_key"]) == (200, False)
