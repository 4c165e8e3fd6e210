"""Memory over a real socket: kept for one person and one schema, found again, forgotten in time, nobody else's ever."""

import asyncio
import json
import logging
import random
import unicodedata
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bytebrew import (
    Capabilities,
    Http,
    InvalidRequest,
    MessageDelta,
    ModelRequest,
    Provider,
    ProviderError,
    Stop,
    ToolCall,
)
from bytebrew.base.formats import rfc3339
from bytebrew.engine import Engine
from bytebrew.testing import chat, providing, scripted_schema, served_engine
from tests.local import local_session
from tests.stored import ON_POSTGRESQL
from tests.tables import check_refusal, token_with

TOPICS = ({"tea", "coffee", "beverage"}, {"dog", "cat", "pet"}, {"rome", "paris", "city"})

ODD = [*'"(;_*^', '" OR "', "AND", "NOT tea", "NEAR(tea, 2)", "owner:o1", "{owner content}:x", "te*", "^tea", "-tea"]
ODD += ["a_b", "tea\0", "'; --", "💥", "\u0301", "a" * 4000, "a " * 2000, "x + y", "tea OR"]


class Puppet(Provider):
    """Calls the tools that the user's message lists as JSON, and says their results as JSON.

    Makes vectors of what a text is about; `failure` is raised instead, and so is a refusal of the text `refuses`.
    """

    type = "puppet"
    capabilities = Capabilities(embeddings=True)

    def __init__(self) -> None:
        self.embedded: list[str] = []
        self.shown: list[list[str]] = []
        self.failure: Exception | None = None
        self.refuses = ""

    async def stream(self, request: ModelRequest, http: Http) -> AsyncGenerator[Any, None]:
        self.shown.append([tool.name for tool in request.tools])
        asked = max(n for n, message in enumerate(request.messages) if message.role == "user")
        if asked == len(request.messages) - 1:
            for name, input in json.loads(request.messages[asked].content):
                yield ToolCall(name, input)
        else:
            results = [message.content for message in request.messages[asked:] if message.role == "tool"]
            yield MessageDelta(content=json.dumps(results))
        yield Stop()

    async def embed(self, texts: Sequence[str], request: ModelRequest, http: Http) -> list[list[float]]:
        if self.failure:
            raise self.failure
        if self.refuses in texts:
            raise ProviderError(f"I do not take {self.refuses!r}", code="model_bad_request")
        self.embedded += texts
        return [[3.0 * len(topic & set(text.lower().split())) for topic in TOPICS] for text in texts]


class Served(NamedTuple):
    """An engine with an agent that remembers, behind the schema `test`."""

    engine: Engine
    client: httpx.AsyncClient
    puppet: Puppet

    async def speaking(self, name: str) -> httpx.AsyncClient:
        """A client of somebody else's."""
        token = (await token_with(self.engine, "chat", name=name)).token
        return httpx.AsyncClient(
            base_url=self.client.base_url, headers={"authorization": f"Bearer {token}"}, timeout=30
        )

    async def listed(self, schema: str = "test", **query: Any) -> list[dict[str, Any]]:
        """What operators see."""
        answer = await self.client.get(f"/api/v1/schemas/{schema}/memory", params=query)
        assert answer.status_code == 200
        found: list[dict[str, Any]] = answer.json()
        return found


@asynccontextmanager
async def remembering(data: Path | None = None, **config: Any) -> AsyncIterator[Served]:
    puppet = Puppet()
    async with served_engine(providing(puppet), data=data) as (engine, client):
        if not await engine.agents() or "test" not in [agent.name for agent in await engine.agents()]:
            await scripted_schema(engine)
            for name in ("puppet", "vectors"):
                kind = {"kind": "embedding", "embedding_dim": 3} if name == "vectors" else {}
                model = {"name": name, "type": "puppet", "model_name": name, "api_key": "s3cr3t-key", **kind}
                assert (await client.post("/api/v1/models", json=model)).status_code == 201
            await client.put("/api/v1/agents/test", json={"model": "puppet"})
            await give(client, "test", **config)
        yield Served(engine, client, puppet)


async def give(client: httpx.AsyncClient, agent: str, **config: Any) -> None:
    body = {"type": "memory", "config": config}
    answer = await client.post(f"/api/v1/agents/{agent}/capabilities", json=body)
    assert answer.status_code == 201, answer.text


async def results(client: httpx.AsyncClient, *calls: Any, schema: str = "test", **body: Any) -> list[str]:
    """What the agent's tools answer, in one message."""
    events = await chat(client, schema, json.dumps(calls), **body)
    [said] = [event for event in events if event.event == "message"]
    found: list[str] = json.loads(json.loads(said.data)["content"])
    return found


async def store(client: httpx.AsyncClient, *facts: str, **body: Any) -> list[str]:
    return await results(client, *(("memory_store", {"content": fact}) for fact in facts), **body)


async def recall(client: httpx.AsyncClient, query: str, limit: int = 10, **body: Any) -> list[str]:
    """The contents that are found."""
    [output] = await results(client, ("memory_recall", {"query": query, "limit": limit}), **body)
    return contents(output)


def contents(output: str) -> list[str]:
    if output.startswith("Nothing that is stored"):
        return []
    return [one["content"] for one in json.loads(output)]


# What is found.


async def test_what_one_session_stores_a_later_one_finds_the_best_match_first() -> None:
    async with remembering() as it:
        assert (
            await store(it.client, "Owns a dog named Rex", "Likes dogs and long walks", "Lives in Rome")
            == ["Stored"] * 3
        )
        assert await recall(it.client, "dog named") == ["Owns a dog named Rex", "Likes dogs and long walks"]
        assert await recall(it.client, "WALKING") == ["Likes dogs and long walks"]
        assert await recall(it.client, "zebra") == []
        assert await recall(it.client, "dog rome", limit=1) != []


async def test_of_two_that_fit_alike_the_newer_comes_first_and_an_empty_query_finds_the_newest() -> None:
    async with remembering() as it:
        await store(it.client, "Likes tea", "Likes milk", "Hates cake")
        assert await recall(it.client, "likes") == ["Likes milk", "Likes tea"]
        assert await recall(it.client, " ?! ", limit=2) == ["Hates cake", "Likes milk"]


async def test_a_memory_has_its_metadata_and_its_time() -> None:
    async with remembering() as it:
        await results(it.client, ("memory_store", {"content": "Likes tea", "metadata": {"sure": True}}))
        [output] = await results(it.client, ("memory_recall", {"query": "tea"}))
        [found] = json.loads(output)
        [listed] = await it.listed()
    assert found == {"content": "Likes tea", "stored_at": listed["updated_at"], "metadata": {"sure": True}}


async def test_scripts_without_spaces_are_found_by_their_characters() -> None:
    async with remembering() as it:
        await store(it.client, "彼女は猫が好きです", "東京に住んでいる")
        assert (await recall(it.client, "猫"))[0] == "彼女は猫が好きです"
        assert (await recall(it.client, "東京"))[0] == "東京に住んでいる"


async def test_letters_with_their_accents_apart_are_the_same_letters() -> None:
    apart, whole = unicodedata.normalize("NFD", "Sent her résumé"), "Sent her résumé"
    async with remembering() as it:
        assert await store(it.client, apart, whole) == ["Stored", "Was stored already"]
        assert await recall(it.client, unicodedata.normalize("NFD", "résumé")) == [apart]
        assert await recall(it.client, "résumé") == [apart]


async def test_of_more_than_can_be_weighed_the_newest_are() -> None:
    async with remembering() as it:
        for at in range(0, 510, 30):
            await store(it.client, *(f"Likes thing{n}" for n in range(at, at + 30)))
        assert await recall(it.client, "likes", limit=1) == ["Likes thing509"]


async def test_how_rare_a_word_is_counts_among_a_persons_own_memories_alone() -> None:
    async with remembering() as it:
        ada, bob = await it.speaking("ada"), await it.speaking("bob")
        await store(ada, "Saw a zebra", "Saw a quokka and its young", "Saw a quokka once more", "Likes tea")
        for own in (["Saw a zebra"], ["Rode on a zebra", "Fed a zebra", "Fed a quokka"]):
            await store(bob, *own)
            assert (await recall(ada, "quokka zebra"))[0] == "Saw a zebra"
        await ada.aclose()
        await bob.aclose()


@pytest.mark.parametrize(
    ("tool", "arguments", "words"),
    [
        ("memory_store", {}, "content"),
        ("memory_store", {"content": ""}, "length >= 1"),
        ("memory_store", {"content": "x" * 4001}, "length <= 4000"),
        ("memory_store", {"content": "x", "metadata": {"x": "y" * 4000}}, "4000 bytes"),
        ("memory_store", {"content": "x", "metadata": []}, "$.metadata"),
        ("memory_recall", {"query": "x", "limit": 51}, "<= 50"),
        ("memory_recall", {"query": "x", "subject": "user:bob"}, "unknown field `subject`"),
    ],
)
async def test_arguments_that_do_not_fit_are_told_to_the_model(tool: str, arguments: Any, words: str) -> None:
    async with remembering() as it:
        [output] = await results(it.client, (tool, arguments))
        assert words in output
        assert await it.listed() == []


async def test_no_query_is_an_error() -> None:
    async with remembering() as it:
        await store(it.client, "Likes tea and AND", "o1 o2 owner content")
        seen: list[str] = []

        async def ask(query: str) -> None:
            seen.extend(await results(it.client, ("memory_recall", {"query": query})))

        @settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(st.sampled_from(ODD) | st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
        def run(query: str) -> None:
            anyio.from_thread.run(ask, query)

        await anyio.to_thread.run_sync(run)
    assert len(seen) >= 150
    for output in seen:
        contents(output)


# Whose it is.


def opposites(n: int) -> tuple[list[str], list[str]]:
    """Facts of two people that have all their words in common but one."""
    things = [f"thing{i} food{i % 7} place{i % 5}" for i in range(n)]
    return [f"Ada LOVES {thing}" for thing in things], [f"Bob HATES {thing}" for thing in things]


def queries(count: int) -> list[str]:
    """Words of both people's facts, at random, and what might reach around the limits of one's own."""
    chance = random.Random(7)
    words = [f"{kind}{i}" for kind in ("thing", "food", "place") for i in range(8)]
    words += ["Ada", "Bob", "LOVES", "HATES", "owner:o1", "owner:o2", '" OR owner:"o1', "o1", "o2", "*", ""]
    return [" ".join(chance.choices(words, k=chance.randint(0, 4))) for _ in range(count)]


async def check_apart(
    it: Served, facts: Sequence[list[str]], *, per_turn: int, through: str = "", embedding: bool = False
) -> None:
    """Two people store opposite facts and recall a thousand times at once; each finds their own alone."""
    ada, bob = await it.speaking("ada"), await it.speaking("bob")

    async def ask(client: httpx.AsyncClient, *calls: Any) -> list[str]:
        if not through:
            return await results(client, *calls)
        [output] = await results(client, (through, {"message": json.dumps(calls)}))
        found: list[str] = json.loads(output)
        return found

    async def live(client: httpx.AsyncClient, own: list[str], asked: list[str]) -> int:
        assert set(await ask(client, *(("memory_store", {"content": fact}) for fact in own))) == {"Stored"}
        found = 0
        for at in range(0, len(asked), per_turn):
            calls = [("memory_recall", {"query": query}) for query in asked[at : at + per_turn]]
            for output in await ask(client, *calls):
                assert set(contents(output)) <= set(own)
                found += len(contents(output))
        return found

    asked = queries(1000)
    counts = await asyncio.gather(live(ada, facts[0], asked[::2]), live(bob, facts[1], asked[1::2]))
    assert min(counts) > 1000
    await ada.aclose()
    await bob.aclose()


@pytest.mark.parametrize("config", [{}, {"embedding_model": "vectors"}], ids=["words", "vectors"])
async def test_two_people_with_opposite_memories_find_their_own_in_a_thousand_recalls(config: Any) -> None:
    async with remembering(**config) as it:
        await check_apart(it, opposites(20), per_turn=50)


async def test_two_people_find_their_own_through_sub_agents_too() -> None:
    async with remembering() as it:
        await it.client.post("/api/v1/agents", json={"name": "archivist", "model": "puppet"})
        await it.client.put("/api/v1/agents/test", json={"can_spawn": ["archivist"]})
        await give(it.client, "archivist")
        await check_apart(it, opposites(20), per_turn=50, through="spawn_archivist")
        ada = {one["subject"] for one in await it.listed() if "Ada" in one["content"]}
        assert len(ada) == 1


async def test_a_sub_agent_and_its_root_share_the_persons_memory() -> None:
    async with remembering() as it:
        await it.client.post("/api/v1/agents", json={"name": "archivist", "model": "puppet"})
        await it.client.put("/api/v1/agents/test", json={"can_spawn": ["archivist"]})
        await give(it.client, "archivist")
        events = await chat(it.client, "test", "[]", user_sub="anna")
        session = json.loads(events[-1].data)["session_id"]
        calls = json.dumps([("memory_store", {"content": "Likes tea"})])
        await results(it.client, ("spawn_archivist", {"message": calls}), session_id=session)
        assert await recall(it.client, "tea", user_sub="anna") == ["Likes tea"]
        assert await recall(it.client, "tea") == []


async def test_memories_are_apart_by_schema_and_by_the_user_that_a_session_names() -> None:
    async with remembering() as it:
        other = {"name": "other", "entry_agent": "test", "chat_enabled": True}
        await it.client.post("/api/v1/schemas", json=other)
        await store(it.client, "Likes tea")
        await store(it.client, "Likes milk", user_sub="anna")
        await store(it.client, "Likes beer", user_sub="ben")
        assert await recall(it.client, "likes") == ["Likes tea"]
        assert await recall(it.client, "likes", user_sub="anna") == ["Likes milk"]
        assert await recall(it.client, "likes", user_sub="ben") == ["Likes beer"]
        assert await recall(it.client, "likes", schema="other") == []


async def test_nobody_reaches_anothers_memory_by_naming_them_as_their_user() -> None:
    async with remembering() as it:
        await store(it.client, "Likes tea")
        [entry] = await it.listed()
        bob = await it.speaking("bob")
        assert await recall(bob, "likes", user_sub=entry["subject"]) == []
        await bob.aclose()


async def finished(client: httpx.AsyncClient, title: str) -> str:
    """The result of the task of this title, once it has ended."""
    with anyio.fail_after(10):
        while True:
            [task] = [one for one in (await client.get("/api/v1/tasks")).json()["data"] if one["title"] == title]
            if task["status"] in ("completed", "failed"):
                return str(task["result"] or task["error"])
            await anyio.sleep(0.02)


@pytest.mark.parametrize("through", ["", "spawn_archivist"], ids=["root", "sub-agent"])
async def test_work_in_the_background_remembers_for_the_user_whose_conversation_has_made_it(through: str) -> None:
    async with remembering() as it:
        await it.client.post("/api/v1/agents", json={"name": "archivist", "model": "puppet", "tools": ["manage_tasks"]})
        await give(it.client, "archivist")
        await it.client.put("/api/v1/agents/test", json={"tools": ["manage_tasks"], "can_spawn": ["archivist"]})

        async def work(user: str, *call: Any) -> str:
            title = json.dumps([call])
            making = ("manage_tasks", {"action": "create", "title": title, "agent_id": "archivist"})
            calls = [(through, {"message": json.dumps([making])})] if through else [making]
            await results(it.client, *calls, user_sub=user)
            [output] = json.loads(await finished(it.client, title))
            return str(output)

        assert await work("anna", "memory_store", {"content": "Anna likes tea"}) == "Stored"
        [task] = (await it.client.get("/api/v1/tasks")).json()["data"]
        session = (await it.client.get(f"/api/v1/sessions/{task['session_id']}")).json()
        assert session["user_sub"] == "anna"
        assert await recall(it.client, "likes", user_sub="anna") == ["Anna likes tea"]
        assert contents(await work("ben", "memory_recall", {"query": "likes tea"})) == []
        assert contents(await work("anna", "memory_recall", {"query": "tea likes"})) == ["Anna likes tea"]
        assert await recall(it.client, "likes") == []


async def test_work_whose_conversation_is_gone_remembers_for_nobody() -> None:
    async with remembering() as it:
        await it.client.put("/api/v1/agents/test", json={"tools": ["manage_tasks"]})
        title = json.dumps([("memory_store", {"content": "Anna likes tea"})])
        making = ("manage_tasks", {"action": "create", "title": title, "agent_id": "test", "require_approval": True})
        events = await chat(it.client, "test", json.dumps([making]), user_sub="anna")
        session = json.loads(events[-1].data)["session_id"]
        [task] = (await it.client.get("/api/v1/tasks")).json()["data"]
        assert (await it.client.delete(f"/api/v1/sessions/{session}")).status_code == 204
        assert (await it.client.post(f"/api/v1/tasks/{task['id']}/approve")).status_code == 200
        assert json.loads(await finished(it.client, title)) == ["This agent has no memory any more"]
        assert await it.listed() == []


async def test_a_task_in_no_schema_is_told_that_there_is_none_to_remember_for() -> None:
    async with remembering() as it:
        title = json.dumps([("memory_store", {"content": "Likes tea"})])
        await it.client.post("/api/v1/tasks", json={"title": title, "agent": "test"})
        [output] = json.loads(await finished(it.client, title))
        assert output.startswith("Memories belong to a schema, and this task is in none")


async def test_an_admin_in_somebodys_session_finds_and_stores_what_is_that_persons() -> None:
    async with remembering() as it:
        bob = await it.speaking("bob")
        events = await chat(bob, "test", json.dumps([("memory_store", {"content": "Bob likes tea"})]))
        session = json.loads(events[-1].data)["session_id"]
        await store(it.client, "The admin likes gin")
        assert await recall(it.client, "likes", session_id=session) == ["Bob likes tea"]
        await store(it.client, "Bob likes milk", session_id=session)
        assert await recall(bob, "likes") == ["Bob likes milk", "Bob likes tea"]
        await bob.aclose()


# How much and how long.


async def test_the_first_in_is_the_first_out_and_what_is_stored_again_is_new_again() -> None:
    async with remembering(max_entries=3) as it:
        await store(it.client, "one", "two", "three")
        assert await store(it.client, " ONE. ") == ["Was stored already"]
        assert await store(it.client, "four") == ["Stored"]
        assert await recall(it.client, "") == ["four", "one", "three"]
        assert await recall(it.client, "two") == []
        bob = await it.speaking("bob")
        await store(bob, "five")
        await bob.aclose()
        assert len(await it.listed()) == 4


async def redate(it: Served, content: str, moment: str) -> None:
    sql = "update memory_entries set updated_at = ? where content = ?"
    await it.engine.db.write(lambda conn: conn.execute(sql, (moment, content)).rowcount)


async def test_what_a_clock_that_was_ahead_has_dated_is_not_preferred_to_what_comes_later() -> None:
    async with remembering(max_entries=2) as it:
        await store(it.client, "Likes tea", "Likes milk and cake")
        for year in (2101, 2401):
            await redate(it, "Likes tea", f"{year}-01-01T00:00:00.000000Z")
            assert (await recall(it.client, "milk and cake"))[0] == "Likes milk and cake"
            assert (await recall(it.client, "likes cake"))[0] == "Likes milk and cake"
        await redate(it, "Likes milk and cake", "2101-01-01T00:00:00.000000Z")
        assert await store(it.client, "Likes beer") == ["Stored"]
        assert await recall(it.client, "beer") == ["Likes beer"]
        assert len(await it.listed()) == 2


async def test_a_lower_limit_counts_from_the_next_memory_on() -> None:
    async with remembering() as it:
        await store(it.client, "one", "two", "three")
        await it.client.put("/api/v1/agents/test/capabilities/memory", json={"config": {"max_entries": 1}})
        await store(it.client, "four")
        assert await recall(it.client, "") == ["four"]


async def test_what_is_past_its_time_is_forgotten_quietly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def age(conn: Any, content: str, days: int) -> None:
        moment = rfc3339(datetime.now(UTC) - timedelta(days=days))
        conn.execute("update memory_entries set updated_at = ? where content = ?", (moment, content))

    async with remembering(tmp_path, retention_days=30) as it:
        await it.client.post("/api/v1/agents", json={"name": "elephant", "model": "puppet"})
        await give(it.client, "elephant")
        await it.client.post("/api/v1/schemas", json={"name": "zoo", "entry_agent": "elephant", "chat_enabled": True})
        await store(it.client, "old", "young")
        await store(it.client, "ancient", schema="zoo")
        for content, days in (("old", 31), ("young", 29), ("ancient", 3000)):
            await it.engine.db.write(age, content, days)
    caplog.clear()
    caplog.set_level(logging.INFO)
    async with remembering(tmp_path) as it:
        await it.engine.retention.run_once()
        assert await recall(it.client, "") == ["young"]
        assert await recall(it.client, "old") == []
        assert await recall(it.client, "", schema="zoo") == ["ancient"]
    assert not [record for record in caplog.records if record.name.startswith("bytebrew_memory")]


async def test_a_shorter_time_counts_for_what_is_there_already(tmp_path: Path) -> None:
    async with remembering(tmp_path) as it:
        await store(it.client, "old")
        sql = "update memory_entries set updated_at = '2020-01-01T00:00:00.000000Z'"
        await it.engine.db.write(lambda conn: conn.execute(sql).rowcount)
    async with remembering(tmp_path) as it:
        assert await recall(it.client, "") == ["old"]
        await it.engine.retention.run_once()
        assert await recall(it.client, "") == ["old"]
        await it.client.put("/api/v1/agents/test/capabilities/memory", json={"config": {"retention_days": 1}})
        await it.engine.retention.run_once()
        assert await it.listed() == []


async def test_memory_is_switched_off_and_on_at_once_and_keeps_what_it_had() -> None:
    async with remembering() as it:
        await store(it.client, "Likes tea")
        switch = "/api/v1/agents/test/capabilities/memory"
        await it.client.put(switch, json={"enabled": False})
        [output] = await results(it.client, ("memory_recall", {"query": "tea"}))
        assert output == "There is no tool named 'memory_recall'"
        await it.client.put(switch, json={"enabled": True})
        assert await recall(it.client, "tea") == ["Likes tea"]
        memory = ["memory_store", "memory_recall"]
        assert it.puppet.shown == [memory, memory, [], [], memory, memory]


# With a model.


async def test_with_a_model_what_is_like_the_query_is_found_without_a_word_in_common() -> None:
    async with remembering(embedding_model="vectors") as it:
        await store(it.client, "Has a cat", "Drinks coffee", "Was in Paris")
        assert (await recall(it.client, "beverage"))[0] == "Drinks coffee"
        assert (await recall(it.client, "pet", limit=1)) == ["Has a cat"]
        assert it.puppet.embedded == ["Has a cat", "Drinks coffee", "Was in Paris", "beverage", "pet"]


@pytest.mark.parametrize(
    "failure", [ProviderError("bad key s3cr3t-key", code="model_auth"), InvalidRequest("bad key s3cr3t-key")]
)
async def test_a_model_that_fails_leaves_the_words_and_its_key_is_not_told(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async with remembering(embedding_model="vectors") as it:
        it.puppet.failure = failure
        assert await store(it.client, "Drinks coffee") == ["Stored"]
        assert await recall(it.client, "coffee") == ["Drinks coffee"]
        assert await recall(it.client, "beverage") == []
        it.puppet.failure = None
        assert await recall(it.client, "beverage") == ["Drinks coffee"]
        assert it.puppet.embedded == ["beverage", "Drinks coffee"]
    said = "".join(record.getMessage() for record in caplog.records)
    assert "memory goes by words alone, for model vectors failed: bad key ***" in said
    assert "s3cr3t" not in said


async def test_a_memory_that_the_model_does_not_take_leaves_the_likeness_of_all_others() -> None:
    async with remembering(embedding_model="vectors") as it:
        await store(it.client, "Drinks coffee")
        it.puppet.failure = ProviderError("too long", code="model_bad_request")
        await store(it.client, "a long story")
        it.puppet.failure, it.puppet.refuses = None, "a long story"
        assert (await recall(it.client, "beverage", limit=1)) == ["Drinks coffee"]


async def test_another_model_makes_other_vectors() -> None:
    async with remembering() as it:
        await store(it.client, "Drinks coffee")
        for name in ("vectors", "later"):
            model = {"name": name, "type": "puppet", "model_name": name, "kind": "embedding", "embedding_dim": 3}
            await it.client.post("/api/v1/models", json=model)
            switch = "/api/v1/agents/test/capabilities/memory"
            await it.client.put(switch, json={"config": {"embedding_model": name}})
            assert await recall(it.client, "beverage") == ["Drinks coffee"]
            assert await recall(it.client, "drinks") == ["Drinks coffee"]
        assert it.puppet.embedded == ["beverage", "Drinks coffee", "drinks"] * 2


# What operators see.


async def test_memories_are_listed_and_deleted_by_operators() -> None:
    async with remembering() as it:
        await store(it.client, "one", "two")
        await store(it.client, "three", user_sub="anna")
        three, two, one = await it.listed()
        schema = (await it.client.get("/api/v1/schemas/test")).json()
        assert (three["content"], three["user_sub"], three["schema_id"]) == ("three", "anna", schema["id"])
        assert await it.listed(schema["id"]) == [three, two, one]
        assert await it.listed(user_sub="anna") == [three]
        assert await it.listed(user_sub=one["subject"], limit=1) == [three]
        url = "/api/v1/schemas/test/memory"
        assert (await it.client.delete(f"{url}/{two['id']}")).status_code == 204
        assert check_refusal(await it.client.delete(f"{url}/{two['id']}"))["error"] == "not_found"
        assert await recall(it.client, "two") == []
        assert (await it.client.delete(url, params={"user_sub": "anna"})).status_code == 204
        assert await it.listed() == [one]
        assert (await it.client.delete(url)).status_code == 204
        assert await it.listed() == []
        assert await store(it.client, "four") == ["Stored"]
        assert await recall(it.client, "four") == ["four"]
        assert check_refusal(await it.client.get("/api/v1/schemas/none/memory"))["error"] == "not_found"


async def test_a_person_with_a_jwt_is_named_by_its_sub_too() -> None:
    url = "/api/v1/schemas/test/memory"
    async with remembering() as it:
        await store(it.client, "The token likes gin")
        it.client.headers["authorization"] = f"Bearer {await local_session(it.engine, it.client)}"
        await store(it.client, "The person likes tea")
        person, token = await it.listed()
        sub = person["subject"].removeprefix("user:")
        assert person["subject"] != sub
        assert await it.listed(user_sub=sub) == [person]
        assert (await it.client.delete(url, params={"user_sub": sub})).status_code == 204
        assert await it.listed() == [token]


async def test_an_empty_user_sub_deletes_nothing() -> None:
    async with remembering() as it:
        await store(it.client, "one")
        refused = await it.client.delete("/api/v1/schemas/test/memory", params={"user_sub": ""})
        assert check_refusal(refused)["details"][0]["path"] == "$.user_sub"
        assert len(await it.listed()) == 1


async def test_memory_is_read_and_deleted_with_the_scopes_of_schemas_and_never_by_chatters() -> None:
    async with remembering() as it:
        await store(it.client, "one")
        [entry] = await it.listed()
        url = "/api/v1/schemas/test/memory"
        for scope, allowed in (("chat", []), ("schemas:read", ["GET"]), ("schemas:write", ["DELETE"])):
            it.client.headers["authorization"] = f"Bearer {(await token_with(it.engine, scope)).token}"
            for method, path in (("GET", url), ("DELETE", f"{url}/{entry['id']}"), ("DELETE", url)):
                assert ((await it.client.request(method, path)).status_code != 403) == (method in allowed)


async def test_a_deleted_schema_takes_its_memories_along(tmp_path: Path) -> None:
    def left(conn: Any) -> list[int]:
        # on PostgreSQL the index of the search is a column of the entries
        tables = ("memory_owners", "memory_entries", "memory_entries" if ON_POSTGRESQL else "memory_search")
        return [conn.execute(f"select count(*) from {table}").fetchone()[0] for table in tables]

    async with remembering() as it:
        await store(it.client, "one", "two")
        assert await it.engine.db.read(left) == [1, 2, 2]
        await it.client.delete("/api/v1/schemas/test")
        assert await it.engine.db.read(left) == [0, 0, 0]
        body = {"name": "test", "entry_agent": "test", "chat_enabled": True}
        assert (await it.client.post("/api/v1/schemas", json=body)).status_code == 201
        assert await recall(it.client, "one") == []


async def test_the_tools_are_shown_to_people_without_an_agent() -> None:
    async with remembering() as it:
        shown = (await it.client.get("/api/v1/tools/metadata")).json()
    assert {"memory_store", "memory_recall"} <= {one["name"] for one in shown}
