"""The steps of a verification, what is kept of the last one, and the verification of a model that is not stored."""

from typing import Any

import httpx
import pytest

from bytebrew.contract.events import MessageDelta
from bytebrew.contract.provider import Capabilities
from bytebrew.testing import ScriptedProvider, providing, served_engine
from tests.upstream import Act, refused, upstream
from tests.web.routes.test_verify import CALLS, KEY, NO_KEY, PONG, URL, dead_url

NO_MODEL = refused(404, {"error": {"message": "There is no such model"}})
NO_TOOLS = refused(400, {"error": {"message": "This model calls no tools"}})
NEW = {"type": "openai_compatible", "model_name": "gpt", "api_key": KEY}


async def verified(client: httpx.AsyncClient, **more: Any) -> Any:
    answer = await client.post(f"{URL}/verify", json={**NEW, **more})
    assert answer.status_code == 200, answer.text
    assert KEY not in answer.text
    return answer.json()


def outcomes(verification: Any) -> list[bool | None]:
    assert [step["name"] for step in verification["steps"]] == ["reached", "key", "answers", "tool_call"]
    return [step["ok"] for step in verification["steps"]]


@pytest.mark.parametrize(
    ("vendor_acts", "expected", "words"),
    [
        ((PONG, CALLS), [True, True, True, True], ""),
        ((PONG, PONG), [True, True, True, False], ""),
        ((PONG, NO_TOOLS), [True, True, True, False], "HTTP 400: This model calls no tools"),
        ((NO_KEY,), [True, False, None, None], "HTTP 401: Incorrect API key: ***"),
        ((NO_MODEL,), [True, None, False, None], "HTTP 404: There is no such model"),
        (([Act.CLOSE],), [False, None, None, None], "the connection was closed"),
    ],
    ids=["all is well", "no call", "tools refused", "key refused", "no model", "closed"],
)
async def test_each_step_says_what_became_of_it(
    vendor_acts: tuple[Any, ...], expected: list[bool | None], words: str
) -> None:
    async with upstream(*vendor_acts) as vendor, served_engine() as (_, client):
        found = await verified(client, base_url=vendor.url)
    assert outcomes(found) == expected
    messages = [step["message"] for step in found["steps"] if step["message"]]
    assert [message.endswith(words) for message in messages] == [True] * bool(words)


async def test_steps_have_the_time_that_they_took() -> None:
    async with upstream([0.1, *PONG], [0.2, *CALLS]) as vendor, served_engine() as (_, client):
        reached, key, answers, call = (await verified(client, base_url=vendor.url))["steps"]
    assert key["ms"] is None
    assert 100 <= reached["ms"] <= answers["ms"] < 1000
    assert 200 <= call["ms"] < 1000


async def test_a_host_that_nobody_is_at_is_not_reached() -> None:
    url = dead_url()
    async with served_engine() as (_, client):
        found = await verified(client, base_url=url)
    assert outcomes(found) == [False, None, None, None]
    assert found["steps"][0]["message"].startswith(f"Cannot reach {url}")


async def test_what_needs_no_network_has_all_steps() -> None:
    async with served_engine() as (_, client):
        assert outcomes(await verified(client, type="demo", model_name="demo")) == [True, True, True, True]


async def test_a_vendor_without_tools_is_not_asked_for_a_call() -> None:
    class Plain(ScriptedProvider):
        capabilities = Capabilities(tools=False)

    async with served_engine(providing(Plain([MessageDelta(content="pong")]))) as (_, client):
        assert outcomes(await verified(client, type="scripted")) == [True, True, True, None]


async def test_the_last_verification_stays_with_the_model_until_that_changes() -> None:
    async with upstream(NO_KEY, PONG, CALLS) as vendor, served_engine() as (_, client):
        created = await client.post(URL, json={"name": "m", **NEW, "base_url": vendor.url})
        assert created.json()["last_verified"] is None
        bad = (await client.post(f"{URL}/m/verify")).json()
        assert (await client.get(f"{URL}/m")).json()["last_verified"] == bad
        assert outcomes(bad) == [True, False, None, None]
        fallback = (await client.patch(f"{URL}/m", json={"pricing_input": 1})).json()
        assert fallback["last_verified"] == bad
        assert (await client.patch(f"{URL}/m", json={"api_key": "sk-another"})).json()["last_verified"] is None
        good = (await client.post(f"{URL}/m/verify")).json()
        assert [one["last_verified"] for one in (await client.get(URL)).json() if one["name"] == "m"] == [good]
        assert outcomes(good) == [True] * 4


async def test_a_model_names_its_agents() -> None:
    async with served_engine() as (_, client):
        for name in ("one", "two"):
            await client.post(URL, json={"name": name, "type": "demo", "model_name": name})
        await client.patch(f"{URL}/one", json={"is_default": True})
        for agent, model in (("a", {}), ("b", {"model": "two"}), ("c", {"model": "two", "summary_model": "one"})):
            answer = await client.post("/api/v1/agents", json={"name": agent, **model})
            assert answer.status_code == 201
        found = {one["name"]: one["used_by"] for one in (await client.get(URL)).json()}
    assert found["two"] == ["b", "c"]
    assert {"a", "c"} <= {*found["one"]}


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"type": "nothing"}, "$.type"),
        ({"type": "azure_openai", "base_url": ""}, "$.base_url"),
        ({"api_key": "${HOME}"}, "$.api_key"),
        ({"type": "anthropic", "kind": "embedding"}, "$.kind"),
        ({"name": "m"}, "$.name"),
    ],
)
async def test_a_model_that_could_not_be_created_is_not_verified(fields: dict[str, Any], path: str) -> None:
    async with served_engine() as (_, client):
        answer = await client.post(f"{URL}/verify", json={**NEW, **fields})
    assert answer.status_code == 400
    assert path in [detail["path"] for detail in answer.json()["details"]]


async def test_verifying_needs_the_scope_to_write_models() -> None:
    async with served_engine() as (_, client):
        token = await client.post("/api/v1/auth/tokens", json={"name": "reader", "scopes": ["models:read"]})
        headers = {"Authorization": f"Bearer {token.json()['token']}"}
        answer = await client.post(f"{URL}/verify", json=NEW, headers=headers)
    assert answer.status_code == 403
