"""Summaries of older turns: what they replace, who makes them, and where they are seen."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest

from bytebrew.base.errors import ProviderError
from bytebrew.base.http_client.client import Http
from bytebrew.contract.events import MessageDelta
from bytebrew.contract.messages import ModelRequest, Stop
from bytebrew.contract.provider import Provider, ProviderEvent
from bytebrew.engine import Engine
from bytebrew.store.messages import tokens
from bytebrew.testing import ScriptedProvider, providing, scripted_schema, served_engine
from tests.conversation.test_context import Double, converse, datas, say


class Small(ScriptedProvider):
    """A model for summaries alone."""

    type = "small"


async def with_small(client: httpx.AsyncClient, **agent: Any) -> None:
    """The agent `test` with the model `small` for its summaries."""
    made = await client.post("/api/v1/models", json={"name": "small", "type": "small", "model_name": "s"})
    assert made.status_code == 201
    changed = await client.patch("/api/v1/agents/test", json={"summary_model": "small", **agent})
    assert changed.status_code == 200, changed.text


async def calls(engine: Engine) -> list[tuple[str, str]]:
    """Purpose and model of each model call, in order."""
    sql = "select purpose, model from usage order by id"
    return await engine.db.read(lambda conn: [(row["purpose"], row["model"]) for row in conn.execute(sql)])


async def test_a_summary_is_an_event_with_counts_and_is_shown_with_its_session() -> None:
    provider = Double()
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine, max_context_size=1000)
        session_id, events = await converse(client, 16)
        detail = (await client.get(f"/api/v1/sessions/{session_id}")).json()
        kept = (await client.get(f"/api/v1/sessions/{session_id}/messages?limit=1000")).json()
        purposes = [purpose for purpose, _ in await calls(engine)]
    made = datas(events, "summarised")
    assert len(made) == len(provider.summaries) == purposes.count("summary") > 1
    assert [one["through"] for one in made] == sorted({one["through"] for one in made})
    assert sum(one["messages"] for one in made) == made[-1]["through"]
    assert all(one["messages"] == 2 * one["turns"] for one in made)
    assert all(one["tokens_before"] > one["tokens_after"] == 2 for one in made)
    assert {one["model"] for one in made} == {"test"}
    assert (detail["summary"]["content"], detail["summary"]["through"]) == ("SUMMARY", made[-1]["through"])
    assert len(kept) == 32  # the session keeps all


async def test_a_session_that_fits_has_no_summary() -> None:
    async with served_engine(providing(Double())) as (engine, client):
        await scripted_schema(engine)
        session_id, events = await converse(client, 3)
        assert (await client.get(f"/api/v1/sessions/{session_id}")).json()["summary"] is None
    assert datas(events, "summarised") == []


@pytest.mark.parametrize("keep", [0, 1, 2, 3, 50])
async def test_the_newest_turns_are_kept_as_they_were_while_they_fit(keep: int) -> None:
    provider = Double()
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine, max_context_size=1400, summary_keep=keep)
        await converse(client, 10)
    for n, request in enumerate(provider.requests):
        shown = [message.content for message in request.messages if message.role == "user"]
        newest = [f"question {m} " for m in range(max(0, n - min(keep, 3)), n + 1)]
        assert all(any(one.startswith(beginning) for one in shown) for beginning in newest), (n, shown)
        assert sum(map(tokens, request.messages)) <= 1400


async def test_another_model_makes_the_summary_and_is_paid_for_it() -> None:
    provider, small = Double(), Small(say("IN SHORT"))
    async with served_engine(providing(provider, small)) as (engine, client):
        await scripted_schema(engine, max_context_size=1000)
        await with_small(client)
        _, events = await converse(client, 8)
        made = [model for purpose, model in await calls(engine) if purpose == "summary"]
        report = (await client.get("/api/v1/usage?group_by=model")).json()
    assert {one["model"] for one in datas(events, "summarised")} == {"small"}
    assert provider.summaries == []
    assert "IN SHORT" in provider.requests[-1].system
    assert made == ["small"] * len(small.requests)
    assert "small" in json.dumps(report)


@pytest.mark.parametrize(
    "nothing",
    [[ProviderError("no", code="model_auth")], [ProviderError("down", code="model_unavailable")], [Stop()]],
    ids=["refused", "down", "empty"],
)
async def test_where_that_model_makes_none_the_agents_own_does(nothing: list[Any]) -> None:
    provider = Double()
    settings = {"BYTEBREW_PROVIDER_RETRIES": "0"}
    async with served_engine(providing(provider, Small(nothing)), settings=settings) as (engine, client):
        await scripted_schema(engine, max_context_size=1000)
        await with_small(client)
        _, events = await converse(client, 8)
    assert {one["model"] for one in datas(events, "summarised")} == {"test"}
    assert datas(events, "context_trimmed") == []
    assert "SUMMARY" in provider.requests[-1].system


async def test_a_model_for_summaries_that_is_gone_is_passed_over() -> None:
    provider = Double()
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine, max_context_size=1000, summary_model="nowhere")
        _, events = await converse(client, 8)
    assert {one["model"] for one in datas(events, "summarised")} == {"test"}


async def test_turns_that_are_too_long_for_one_summary_are_summarised_in_parts() -> None:
    class Narrow(Provider):
        """Summarises no more than 300 tokens at a time, and does not say so."""

        type = "scripted"
        summaries = 0

        async def stream(self, request: ModelRequest, http: Http) -> AsyncGenerator[ProviderEvent, None]:
            if request.system.startswith("Summarise"):
                if sum(map(tokens, request.messages)) > 310:
                    raise ProviderError("too long", code="model_context_too_long")
                self.summaries += 1
            yield MessageDelta(content="SUM" if request.system.startswith("Summarise") else "a" * 400)
            yield Stop()

    provider = Narrow()
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine, max_context_size=1000)
        _, events = await converse(client, 8)
    assert datas(events, "context_trimmed") == []
    assert len(datas(events, "summarised")) == provider.summaries > 1


async def test_a_model_in_use_for_summaries_is_not_deleted_and_makes_no_embeddings() -> None:
    async with served_engine(providing(Double(), Small())) as (engine, client):
        await scripted_schema(engine)
        await with_small(client, summary_keep=2)
        agent = (await client.get("/api/v1/agents/test")).json()
        assert (agent["summary_keep"], agent["summary_model"]) == (2, "small")
        deleted = await client.delete("/api/v1/models/small")
        assert deleted.status_code == 409
        assert deleted.json()["details"] == [{"path": "$.agents", "message": "test"}]
        vectors = {"name": "vectors", "type": "ollama", "model_name": "v", "kind": "embedding"}
        assert (await client.post("/api/v1/models", json=vectors)).status_code == 201
        refused = await client.patch("/api/v1/agents/test", json={"summary_model": "vectors"})
        assert (refused.status_code, refused.json()["details"][0]["path"]) == (400, "$.summary_model")
        text = (await client.get("/api/v1/config/export")).text
        assert "summary_keep: 2" in text
        assert "summary_model: small" in text
        await client.patch("/api/v1/agents/test", json={"summary_model": None})
        assert (await client.delete("/api/v1/models/small")).status_code == 204


async def test_a_callers_own_key_pays_for_no_model_of_the_operator() -> None:
    provider, small = Double(), Small(say("IN SHORT"))
    async with served_engine(providing(provider, small)) as (engine, client):
        await scripted_schema(engine, max_context_size=1000)
        await with_small(client)
        await client.put("/api/v1/settings/byok.scripted", json={"value": True})
        headers = {"X-Model-API-Key": "sk-mine", "X-Model-Provider": "scripted", "X-Model-Name": "mine"}
        client.headers.update(headers)
        await converse(client, 8)
    assert small.requests == []
    assert provider.summaries


async def test_the_public_view_has_no_summary_which_is_of_tools_outputs_too() -> None:
    async with served_engine(providing(Double())) as (engine, client):
        await scripted_schema(engine, max_context_size=1000)
        body = {"name": "page", "scopes": ["chat"], "view": "public"}
        made = await client.post("/api/v1/auth/tokens", json=body)
        assert made.status_code == 201, made.text
        session_id, _ = await converse(client, 8)
        full = (await client.get(f"/api/v1/sessions/{session_id}")).json()
        client.headers["authorization"] = f"Bearer {made.json()['token']}"
        session_id, _ = await converse(client, 8)
        public = (await client.get(f"/api/v1/sessions/{session_id}")).json()
    assert full["summary"]["content"] == "SUMMARY"
    assert public["summary"] is None
