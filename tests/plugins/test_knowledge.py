"""Knowledge bases over REST and in a chat: files are taken in, indexed, found, replaced and forgotten."""

import asyncio
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import anyio
import httpx
import pytest
from bytebrew_knowledge import indexer
from bytebrew_knowledge.reader import Reader
from bytebrew_knowledge.uploads import received

from bytebrew import Capabilities, Http, MessageDelta, ModelRequest, Provider, ProviderError, ToolCall
from bytebrew.engine import Engine
from bytebrew.testing import ScriptedProvider, chat, providing, scripted_schema, served_engine
from tests.documents import BASES, create, docx, found, paragraph, pdf, put, settled, stored_blobs, table
from tests.store.sqlite.test_disk import fill, no_quota
from tests.tables import check_refusal, token_with

AXES = {"car": 0, "automobile": 0, "dog": 1, "hound": 1, "boat": 2, "vessel": 2}


class Meanings(Provider):
    """Makes vectors of the few words that it knows; `failure` is raised in their place, `gate` is waited for.

    `waiting` counts those that wait for it, `length` is of the vectors.
    """

    type = "meanings"
    capabilities = Capabilities(embeddings=True)

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.models: set[str] = set()
        self.failure: ProviderError | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = 0
        self.length = 3

    async def embed(self, texts: Sequence[str], request: ModelRequest, http: Http) -> list[list[float]]:
        self.waiting += 1
        await self.gate.wait()
        self.waiting -= 1
        self.models.add(request.model_name)
        if self.failure is not None:
            raise self.failure
        self.asked += texts
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> list[float]:
        vector = [0.01] * self.length
        for word in text.lower().replace(".", " ").split():
            if word in AXES:
                vector[AXES[word]] += 1
        return vector


async def embedding(client: httpx.AsyncClient, name: str = "meanings", **fields: Any) -> dict[str, Any]:
    """A new embedding model of the provider above."""
    model = {"name": name, "type": "meanings", "model_name": name, "kind": "embedding", **fields}
    response = await client.post("/api/v1/models", json=model)
    assert response.status_code == 201, response.text
    body: dict[str, Any] = response.json()
    return body


async def chunks(engine: Engine) -> int:
    """How many chunks lie in the file, searched or not."""
    return await engine.db.read(lambda conn: conn.execute("select count(*) from knowledge_chunks").fetchone()[0])


async def knows(client: httpx.AsyncClient, name: str = "test") -> bool:
    """What the list of agents says of an agent's knowledge."""
    has: dict[str, bool] = {
        agent["name"]: agent["has_knowledge"] for agent in (await client.get("/api/v1/agents")).json()
    }
    return has[name]


async def blobs(engine: Engine) -> list[str]:
    """The names of the contents of files."""
    return sorted(await asyncio.to_thread(stored_blobs, engine.data_dir))


async def test_a_base_is_created_shown_changed_and_deleted() -> None:
    async with served_engine() as (_, client):
        made = await create(client, "Staff handbook", description="Rules")
        assert (made["name"], made["description"], made["embedding_model"]) == ("Staff handbook", "Rules", None)
        assert (made["file_count"], made["linked_agents"], made["status"]) == (0, [], "empty")
        for key in (made["id"], "Staff handbook"):
            assert (await client.get(f"{BASES}/{key}")).json() == made
        for method in ("PUT", "PATCH"):
            changed = (await client.request(method, f"{BASES}/{made['id']}", json={"description": method})).json()
            assert changed == {**made, "description": method, "updated_at": changed["updated_at"]}
        assert check_refusal(await client.post(BASES, json={"name": "Staff handbook"}))["error"] == "conflict"
        assert (await client.delete(f"{BASES}/{made['id']}")).status_code == 204
        assert check_refusal(await client.get(f"{BASES}/{made['id']}"))["error"] == "not_found"
        assert (await client.get(BASES)).json() == []


FORMATS: Mapping[str, tuple[bytes, str, str]] = {
    "a.txt": (b"Intro.\n\nThe quokka sleeps.", "", "quokka"),
    "b.md": (b"# Zoo\n\n## Birds\n\nA quokka is none.\n\n## Fish\n\nNor here.", "Zoo > Birds", "quokka"),
    "c.html": (
        b"<title>Zoo</title><script>var quagga</script><h1>Birds</h1><p>A <b>quo</b>kka is none.",
        "Zoo > Birds",
        "quokka",
    ),
    "d.csv": (b'name;food\nquokka;"leaves; grass"\nemu;seeds\n', "", "food: leaves; grass"),
    "e.json": (b'{"zoo": {"city": "Perth"}, "animals": [{"name": "quokka", "legs": 4}]}', "animals[0]", "name: quokka"),
    "f.docx": (
        docx(paragraph("Birds", "Heading1") + table(["animal", "bird"], ["quokka", "no"])),
        "Birds",
        "quokka | no",
    ),
    "g.pdf": (pdf("A cover", "The quokka sleeps"), "page 2", "quokka"),
    "h.markdown": ("# Tier\n\nDas Quokka schläft.".encode("utf-16"), "Tier", "schläft"),
    "i.HTM": ("<h2>Größe</h2><p>quokka: klein".encode("windows-1252"), "Größe", "quokka"),
}


async def test_every_format_is_read_with_its_headings() -> None:
    async with served_engine() as (_, client):
        await create(client)
        for name, (content, _, _) in FORMATS.items():
            made = await put(client, name, content)
            assert (made["file_name"], made["file_size"]) == (name, len(content))
        files = await settled(client)
        assert {name: file["status"] for name, file in files.items()} == dict.fromkeys(FORMATS, "ready")
        assert all(file["progress"] == 100 and file["indexed_at"] for file in files.values())
        hits = {hit["file_name"]: hit for hit in await found(client, "quokka", limit=20)}
        for name, (_, heading, words) in FORMATS.items():
            assert hits[name]["heading"] == heading
            assert words in hits[name]["text"]
        assert await found(client, "quagga") == []
        base = (await client.get(f"{BASES}/docs")).json()
        assert (base["file_count"], base["indexed_files"], base["status"]) == (len(FORMATS), len(FORMATS), "ready")


async def test_an_agent_that_is_linked_searches_and_is_told_the_source() -> None:
    provider = ScriptedProvider(
        [ToolCall("knowledge_search", {"query": "How many vacation days?", "limit": 1})], [MessageDelta(content="30")]
    )
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine)
        await create(client)
        await put(client, "handbook.md", "# Vacation\n\nThirty days a year.\n\n# Lunch\n\nAt noon.")
        await settled(client)
        assert await knows(client) is False
        linked = await client.post(f"{BASES}/docs/agents/test")
        assert (linked.status_code, linked.json()) == (200, {"status": "linked"})
        assert (await client.post(f"{BASES}/docs/agents/test")).status_code == 200
        assert await knows(client) is True
        events = await chat(client, "test", "How long may I be away?")
        output = json.loads(next(event.data for event in events if event.event == "tool_result"))["output"]
        assert output == "[1] Source: handbook.md > Vacation (part 1)\nThirty days a year."
        assert [spec.name for spec in provider.requests[0].tools] == ["knowledge_search"]
        assert (await client.get(f"{BASES}/docs")).json()["linked_agents"] == ["test"]
        refusal = check_refusal(await client.delete(f"{BASES}/docs"))
        assert refusal["details"] == [{"path": "$.linked_agents", "message": "test"}]
        assert (await client.delete(f"{BASES}/docs/agents/test")).status_code == 204
        assert check_refusal(await client.delete(f"{BASES}/docs/agents/test"))["error"] == "not_found"
        assert await knows(client) is False
        await chat(client, "test", "And now?")
        assert not provider.requests[-1].tools
        assert (await client.delete(f"{BASES}/docs")).status_code == 204


async def test_the_capability_switches_the_search_off_and_on_and_says_how_much_it_finds() -> None:
    search = [ToolCall("knowledge_search", {"query": "apples"})]
    provider = ScriptedProvider([MessageDelta(content="none")], search, [MessageDelta(content="some")])
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine)
        await create(client)
        for n in range(4):
            await put(client, f"{n}.txt", f"Apples, basket {n}.")
        await settled(client)
        await client.post(f"{BASES}/docs/agents/test")
        url = "/api/v1/agents/test/capabilities/knowledge"
        assert (await client.put(url, json={"enabled": False})).status_code == 204
        await chat(client, "test", "Search")
        assert not provider.requests[0].tools
        await client.put(url, json={"enabled": True, "config": {"top_k": 3}})
        events = await chat(client, "test", "Search")
        output = json.loads(next(event.data for event in events if event.event == "tool_result"))["output"]
        assert output.count("Source: ") == 3


@pytest.mark.parametrize(
    ("input", "words"),
    [
        ({}, "'query'"),
        ({"query": " "}, "'query'"),
        ({"query": 3}, "'query'"),
        ({"query": "a", "limit": "x"}, "'limit'"),
    ],
)
async def test_a_model_that_asks_wrongly_is_told_how_to(input: dict[str, Any], words: str) -> None:
    provider = ScriptedProvider([ToolCall("knowledge_search", input)], [MessageDelta(content="sorry")])
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine)
        await create(client)
        await client.post(f"{BASES}/docs/agents/test")
        events = await chat(client, "test", "Search")
        result = json.loads(next(event.data for event in events if event.event == "tool_result"))
        assert result["has_error"]
        assert words in result["output"]


@pytest.fixture(scope="module")
async def apples() -> AsyncIterator[httpx.AsyncClient]:
    """The client of an engine with one text about apples."""
    async with served_engine() as (_, client):
        await create(client)
        await put(client, "a.txt", "a text about apples")
        await settled(client)
        yield client


@pytest.mark.parametrize(
    "query",
    [
        *('"', "'", "a AND", "NOT", "NEAR(", "a*", "text : x", "-", "(", ")))", "^a", "{a b}", "💥", "_"),
        *("x" * 9000, "a " * 4000, "heading:Zoo", "'; drop table knowledge_words; --", "𝔘𝔫𝔦", "\u202e", "a OR OR b"),
    ],
)
async def test_no_query_is_a_fault_of_syntax(query: str, apples: httpx.AsyncClient) -> None:
    answer = await apples.get(f"{BASES}/docs/search", params={"q": query})
    assert answer.status_code == (200 if query.strip() else 400)
    assert len(await found(apples, f"apples {query[:200]}")) == 1


async def test_a_search_is_narrowed_by_file_and_by_metadata() -> None:
    async with served_engine() as (_, client):
        await create(client)
        for team, name in (("hr", "a.txt"), ("it", "b.txt"), ("it", "c.txt")):
            await put(client, name, f"Apples of {name}.", metadata=json.dumps({"team": team, "name": name}))
        files = await settled(client)
        assert files["a.txt"]["metadata"] == {"team": "hr", "name": "a.txt"}

        async def names(**more: str) -> list[str]:
            return sorted(hit["file_name"] for hit in await found(client, "apples", **more))

        assert await names() == ["a.txt", "b.txt", "c.txt"]
        assert await names(file="a.txt") == ["a.txt"]
        assert await names(file=files["b.txt"]["id"]) == ["b.txt"]
        assert await names(**{"metadata.team": "it"}) == ["b.txt", "c.txt"]
        assert await names(**{"metadata.team": "it", "metadata.name": "c.txt"}) == ["c.txt"]
        assert await names(**{"metadata.owner": "it"}) == []
        for name, value in (("limit", "0"), ("limit", "x"), ("threshold", "2"), ("threshold", "nan")):
            response = await client.get(f"{BASES}/docs/search", params={"q": "apples", name: value})
            assert check_refusal(response)["details"][0]["path"] == f"$.{name}"


async def test_a_file_of_the_same_name_takes_the_place_of_the_one_before() -> None:
    async with served_engine() as (engine, client):
        await create(client)
        first = await put(client, "a.txt", "Apples are red.")
        await settled(client)
        again = await put(client, "a.txt", "Apples are red.")
        assert (again["id"], again["status"]) == (first["id"], "ready")
        changed = await put(client, "a.txt", "Pears are green.")
        assert (changed["id"], changed["status"]) == (first["id"], "indexing")
        await settled(client)
        assert await found(client, "apples") == []
        assert [hit["text"] for hit in await found(client, "pears")] == ["Pears are green."]
        assert len(await blobs(engine)) == 1
        with anyio.fail_after(5):
            while await chunks(engine) != 1:
                await anyio.sleep(0.02)
        assert (await client.delete(f"{BASES}/docs/files/{first['id']}")).status_code == 204
        assert await found(client, "pears") == []
        assert await blobs(engine) == []
        with anyio.fail_after(5):
            while await chunks(engine):
                await anyio.sleep(0.02)


async def test_a_hit_says_which_words_match_and_what_stands_around_it() -> None:
    text = "# One\n\nTea is made.\n\n# Making tea\n\nMakers of TEA make tea.\n\n# Three\n\nCoffee."
    async with served_engine() as (_, client):
        await create(client)
        await put(client, "a.md", text)
        [file] = (await settled(client)).values()
        hits = await found(client, "tea makes")
        assert [(hit["heading"], hit["word_rank"], hit["vector_rank"], hit["matched_terms"]) for hit in hits] == [
            ("Making tea", 1, None, ["making", "tea", "make"]),
            ("One", 2, None, ["tea"]),
        ]
        url = f"{BASES}/docs/files/{file['id']}/chunks"
        around = (await client.get(url, params={"first": hits[0]["position"] - 1, "limit": 3})).json()["data"]
        assert [(chunk["position"], chunk["heading"]) for chunk in around] == [
            (1, "One"),
            (2, "Making tea"),
            (3, "Three"),
        ]
        assert around[2]["text"] == "Coffee."
        assert (await client.get(url, params={"first": 3})).json() == {"data": around[2:]}
        for wrong in ({"first": -1}, {"limit": 51}):
            answer = await client.get(url, params=wrong)
            assert check_refusal(answer)["details"][0]["path"] == f"$.{next(iter(wrong))}"
        assert (await client.get(f"{BASES}/docs/files/nothing/chunks")).status_code == 404


async def test_a_meaning_is_found_whose_words_are_not_there() -> None:
    meanings = Meanings()
    async with served_engine(providing(meanings)) as (_, client):
        model = await embedding(client)
        base = await create(client, embedding_model_id=model["id"])
        assert (base["embedding_model"], base["embedding_model_id"]) == ("meanings", model["id"])
        await put(client, "a.md", "# Road\n\nEvery automobile is washed.\n\n# Pets\n\nThe hound barks.")
        await settled(client)
        assert meanings.asked == ["Road\nEvery automobile is washed.", "Pets\nThe hound barks."]
        hits = await found(client, "car")
        assert hits[0]["heading"] == "Road"
        assert hits[0]["similarity"] > 0.9 > hits[1]["similarity"]
        assert [hit["heading"] for hit in await found(client, "car", threshold=0.9)] == ["Road"]
        assert [hit["heading"] for hit in await found(client, "barks dog", threshold=0.9)] == ["Pets"]


@pytest.mark.parametrize("model", ["test", "nothing", 99999, 1])
async def test_a_base_takes_embedding_models_alone(model: str | int) -> None:
    async with served_engine(providing(ScriptedProvider([]))) as (engine, client):
        await scripted_schema(engine)
        for response in (
            await client.post(BASES, json={"name": "a", "embedding_model_id": model}),
            await client.patch(f"{BASES}/{(await create(client))['id']}", json={"embedding_model": model}),
        ):
            assert response.status_code == 400
            assert check_refusal(response)["details"][0]["path"] == "$.embedding_model"


async def test_the_old_index_is_searched_until_the_new_one_is_whole() -> None:
    meanings = Meanings()
    async with served_engine(providing(meanings)) as (engine, client):
        await embedding(client)
        await embedding(client, "better")
        await create(client, embedding_model="meanings")
        text = "".join(f"# Part {n}\n\nThe automobile {n} is washed.\n\n" for n in range(120))
        await put(client, "a.md", text)
        await settled(client)
        meanings.gate.clear()
        changed = await client.patch(f"{BASES}/docs", json={"embedding_model": "better"})
        assert changed.json()["status"] == "indexing"

        async def look() -> Any:
            hits = await found(client, "automobile 7")
            assert hits[0]["heading"] == "Part 7"
            return hits

        looking = asyncio.create_task(look())
        await asyncio.sleep(0.2)
        assert (await client.get(f"{BASES}/docs/files/a.md")).json()["chunk_count"] == 120
        meanings.gate.set()
        await looking
        files = await settled(client)
        assert (files["a.md"]["status"], files["a.md"]["chunk_count"]) == ("ready", 120)
        assert meanings.models == {"meanings", "better"}
        assert (await look())[0]["similarity"] is not None
        with anyio.fail_after(5):
            while await chunks(engine) != 120:
                await anyio.sleep(0.02)


async def test_a_model_that_fails_leaves_the_words_and_is_named() -> None:
    meanings = Meanings()
    meanings.failure = ProviderError("No such key sk-123", code="model_auth")
    async with served_engine(providing(meanings)) as (_, client):
        await embedding(client, api_key="sk-123")
        await create(client, embedding_model="meanings")
        await put(client, "a.txt", "The hound barks.")
        file = (await settled(client))["a.txt"]
        assert (file["status"], file["chunk_count"]) == ("error", 1)
        assert "No such key ***" in file["status_message"]
        answer = (await client.get(f"{BASES}/docs/search?q=hound")).json()
        assert [hit["similarity"] for hit in answer["results"]] == [None]
        assert answer["warning"] == "No such key ***"
        meanings.failure = None
        started = await client.post(f"{BASES}/docs/files/{file['id']}/reindex")
        assert (started.status_code, started.json()) == (202, {"status": "reindex_started"})
        assert (await settled(client))["a.txt"]["status"] == "ready"
        assert (await found(client, "dog"))[0]["similarity"] > 0.9
        meanings.failure = ProviderError("Gone", code="model_unavailable")
        await client.post(f"{BASES}/docs/files/a.txt/reindex")
        file = (await settled(client))["a.txt"]
        assert (file["status"], file["chunk_count"]) == ("error", 1)
        meanings.failure = None
        assert (await found(client, "dog"))[0]["similarity"] > 0.9  # what was indexed before


async def test_a_model_that_is_changed_has_its_files_indexed_again() -> None:
    meanings = Meanings()
    async with served_engine(providing(meanings)) as (_, client):
        await embedding(client)
        await create(client, embedding_model="meanings")
        await put(client, "a.txt", "The hound barks.")
        await settled(client)
        await client.put("/api/v1/models/meanings", json={"model_name": "second"})
        assert [hit["file_name"] for hit in await found(client, "hound")] == ["a.txt"]
        await settled(client)
        assert (await found(client, "dog"))[0]["similarity"] > 0.9
        assert meanings.models == {"meanings", "second"}
        await client.delete("/api/v1/models/meanings")
        assert [hit["file_name"] for hit in await found(client, "hound")] == ["a.txt"]


async def test_vectors_of_another_length_are_told_until_the_files_are_indexed_again() -> None:
    meanings = Meanings()
    async with served_engine(providing(meanings)) as (_, client):
        await embedding(client)
        await create(client, embedding_model="meanings")
        await put(client, "a.txt", "The hound barks.")
        await settled(client)

        async def look() -> tuple[list[str], str | None]:
            answer = (await client.get(f"{BASES}/docs/search?q=dog")).json()
            return [hit["file_name"] for hit in answer["results"]], answer["warning"]

        assert await look() == (["a.txt"], None)
        meanings.length = 5
        words = "Model 'meanings' makes vectors of another length than before; index the files again"
        assert await look() == ([], words)
        await put(client, "b.txt", "A dog sleeps.")
        await settled(client)
        assert await look() == (["b.txt"], words)
        await client.post(f"{BASES}/docs/files/a.txt/reindex")
        await settled(client)
        found_now, warning = await look()
        assert (sorted(found_now), warning) == (["a.txt", "b.txt"], None)


@pytest.mark.parametrize("same", [True, False])
async def test_a_failure_in_the_middle_is_told_after_a_stop_unless_another_model_begins_anew(
    same: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing, let, batches = Meanings(), threading.Event(), 0

    def held(lines: BinaryIO) -> list[tuple[str, str]]:
        nonlocal batches
        batches += 1
        if batches == 2:
            failing.failure = ProviderError("Gone", code="model_bad_request")
        elif batches == 3:
            let.wait(30)
        return [] if let.is_set() else following(lines)

    following = indexer._next
    with monkeypatch.context() as patch:
        patch.setattr(indexer, "_next", held)
        async with served_engine(providing(failing), data=tmp_path) as (_, client):
            await embedding(client)
            await create(client, embedding_model="meanings")
            await put(client, "a.md", "\n\n".join(f"# Part {n}\n\nThe automobile {n}." for n in range(120)))
            with anyio.fail_after(20):
                while (file := (await client.get(f"{BASES}/docs/files/a.md")).json())["progress"] < 83:
                    await anyio.sleep(0.01)
            message = "Only words are searched, the embedding model failed: Gone"
            assert (file["status"], file["status_message"]) == ("indexing", message)
            if not same:
                await client.put("/api/v1/models/meanings", json={"model_name": "second"})
    let.set()
    async with served_engine(providing(Meanings()), data=tmp_path) as (_, client):
        file = (await settled(client))["a.md"]
    assert file["chunk_count"] == 120
    assert (file["status"], file["status_message"]) == (("error", message) if same else ("ready", None))


async def test_a_model_that_does_not_answer_holds_up_no_files_but_its_own() -> None:
    class Quick(Meanings):
        type = "quick"

    slow = Meanings()
    async with served_engine(providing(slow, Quick())) as (_, client):
        await embedding(client)
        await embedding(client, "quick", type="quick")
        slow.gate.clear()

        async def send(base: str, model: str | None) -> None:
            await create(client, base, embedding_model=model)
            for n in range(4):
                await put(client, f"{n}.txt", f"The automobile {n}.", base)

        await send("slow", "meanings")
        with anyio.fail_after(20):
            while slow.waiting < 2:
                await anyio.sleep(0.01)
        for base, model in (("plain", None), ("other", "quick")):
            await send(base, model)
            assert {file["status"] for file in (await settled(client, base, 20)).values()} == {"ready"}
        assert (await client.get(f"{BASES}/slow")).json()["indexed_files"] == 0
        assert slow.waiting == 2  # files of one model at a time
        slow.gate.set()
        assert {file["status"] for file in (await settled(client, "slow")).values()} == {"ready"}


async def test_a_stop_in_the_middle_of_a_file_is_gone_on_with(tmp_path: Path) -> None:
    parts = [f"# Part {n}\n\nThe automobile {n} is washed." for n in range(120)]
    before, after = Meanings(), Meanings()
    async with served_engine(providing(before), data=tmp_path) as (_, client):
        await embedding(client)
        await create(client, embedding_model="meanings")
        before.gate.clear()
        await put(client, "a.md", "\n\n".join(parts))
        before.gate.set()
        with anyio.fail_after(5):
            while len(before.asked) < 50:
                await anyio.sleep(0)
        before.gate.clear()
        with anyio.fail_after(5):
            while not (progress := (await client.get(f"{BASES}/docs/files/a.md")).json()["progress"]):
                await anyio.sleep(0.01)
        assert progress < 100
    async with served_engine(providing(after), data=tmp_path) as (_, client):
        assert (await settled(client))["a.md"]["chunk_count"] == 120
        assert (await found(client, "automobile 119"))[0]["heading"] == "Part 119"
    assert 0 < len(after.asked) - 1 < 120  # less those that had been stored, and the search's own
    assert sorted([*before.asked[: 121 - len(after.asked)], *after.asked[:-1]]) == sorted(
        f"Part {n}\nThe automobile {n} is washed." for n in range(120)
    )


async def test_the_routes_of_an_agent_reach_its_own_base() -> None:
    async with served_engine() as (_, client):
        await client.post("/api/v1/agents", json={"name": "clerk"})
        url = "/api/v1/agents/clerk/knowledge"
        empty = {"agent_name": "clerk", "total_files": 0, "indexed_files": 0, "status": "empty"}
        assert (await client.get(f"{url}/status")).json() == empty
        made = await client.post(f"{url}/files", files={"file": ("a.txt", b"Apples")})
        assert made.status_code == 201
        await settled(client, "clerk")
        assert (await client.get(f"{url}/status")).json() == {**empty, "total_files": 1, "indexed_files": 1} | {
            "status": "ready"
        }
        assert [file["file_name"] for file in (await client.get(f"{url}/files")).json()] == ["a.txt"]
        assert (await client.get(f"{BASES}/clerk")).json()["linked_agents"] == ["clerk"]
        assert (await client.get("/api/v1/agents/clerk")).json()["has_knowledge"] is True
        started = await client.post(f"{url}/reindex")
        assert (started.status_code, started.json()) == (202, {"status": "indexing_started"})
        await settled(client, "clerk")
        await create(client)
        await client.post(f"{BASES}/docs/agents/clerk")
        refusal = await client.post(f"{url}/files", files={"file": ("b.txt", b"Pears")})
        assert check_refusal(refusal)["error"] == "conflict"
        assert (await client.delete(f"{url}/files/{made.json()['id']}")).status_code == 204
        assert (await client.get(f"{url}/status")).json() == empty
        assert check_refusal(await client.get("/api/v1/agents/nobody/knowledge/status"))["error"] == "not_found"


async def test_an_agent_is_not_given_a_base_that_only_has_its_name() -> None:
    async with served_engine() as (engine, client):
        await client.post("/api/v1/agents", json={"name": "clerk"})
        base = await create(client, "clerk")
        await put(client, "salaries.txt", "Ann has 90000.", "clerk")
        await settled(client, "clerk")
        url = "/api/v1/agents/clerk/knowledge/files"
        refusal = check_refusal(await client.post(url, files={"file": ("faq.txt", b"Apples")}))
        link = f"{BASES}/{base['id']}/agents/clerk"
        assert refusal["error"] == "conflict"
        assert refusal["message"].endswith(f"link it to the agent first, with POST {link}")
        assert (await client.get(url)).json() == []
        assert await knows(client, "clerk") is False
        assert len(await blobs(engine)) == 1
        assert (await client.post(link)).status_code == 200
        assert (await client.post(url, files={"file": ("faq.txt", b"Apples")})).status_code == 201


async def test_what_an_agent_is_sent_and_cannot_be_taken_makes_it_no_base() -> None:
    async with served_engine() as (engine, client):
        await client.post("/api/v1/agents", json={"name": "clerk"})
        url = "/api/v1/agents/clerk/knowledge/files"
        assert (await client.post(url, files={"file": ("a.exe", b"MZ")})).status_code == 415
        assert (await client.get(BASES)).json() == []
        assert await knows(client, "clerk") is False
        assert (await client.post(url.replace("clerk", "nobody"), files={"file": ("a.txt", b"a")})).status_code == 404
        assert await blobs(engine) == []


async def test_a_name_that_several_files_have_deletes_none() -> None:
    async with served_engine() as (_, client):
        await client.post("/api/v1/agents", json={"name": "clerk"})
        for base in ("docs", "more"):
            await create(client, base)
            await client.post(f"{BASES}/{base}/agents/clerk")
            made = await put(client, "a.txt", f"Apples of {base}.", base)
        url = "/api/v1/agents/clerk/knowledge/files"
        assert check_refusal(await client.delete(f"{url}/a.txt"))["error"] == "conflict"
        assert len((await client.get(url)).json()) == 2
        assert (await client.delete(f"{url}/{made['id']}")).status_code == 204
        assert (await client.delete(f"{url}/a.txt")).status_code == 204
        assert (await client.get(url)).json() == []


async def test_the_id_of_a_model_is_not_taken_for_a_name() -> None:
    async with served_engine(providing(Meanings())) as (_, client):
        first = await embedding(client, "first")
        await embedding(client, str(first["id"]))
        assert (await create(client, "a", embedding_model_id=first["id"]))["embedding_model"] == "first"
        assert (await create(client, "b", embedding_model=str(first["id"])))["embedding_model"] == str(first["id"])


def slow_form(sent: asyncio.Event) -> dict[str, Any]:
    """A form whose end comes once it is sent."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n' + b"Apples " * 300_000
        await sent.wait()
        yield b"\r\n--x--\r\n"

    return {"content": pieces(), "headers": {"content-type": "multipart/form-data; boundary=x"}}


async def test_a_base_that_goes_while_a_file_is_sent_takes_it_along() -> None:
    async with served_engine() as (engine, client):
        await create(client)
        sent = asyncio.Event()
        sending = asyncio.create_task(client.post(f"{BASES}/docs/files", **slow_form(sent)))
        with anyio.fail_after(5):
            while not await blobs(engine):
                await anyio.sleep(0.01)
        assert (await client.delete(f"{BASES}/docs")).status_code == 204
        sent.set()
        assert check_refusal(await sending)["error"] == "not_found"
        assert await blobs(engine) == []


async def test_what_is_replaced_or_deleted_while_it_is_indexed_leaves_nothing_behind() -> None:
    meanings = Meanings()
    async with served_engine(providing(meanings)) as (engine, client):
        await embedding(client)
        await create(client, embedding_model="meanings")
        meanings.gate.clear()
        for name in ("a.txt", "b.txt"):
            await put(client, name, f"Old apples of {name}.")
        await asyncio.sleep(0.3)  # both workers wait for their vectors
        await put(client, "a.txt", "New pears.")
        assert (await client.delete(f"{BASES}/docs/files/b.txt")).status_code == 204
        meanings.gate.set()
        assert set(await settled(client)) == {"a.txt"}
        assert [hit["text"] for hit in await found(client, "old apples and new pears")] == ["New pears."]
        with anyio.fail_after(5):
            while await chunks(engine) != 1:
                await anyio.sleep(0.02)
        assert len(await blobs(engine)) == 1


async def test_what_is_deleted_before_it_is_read_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gone, read = asyncio.Event(), Reader.read

    async def read_late(reader: Reader, *given: Any) -> int:
        await gone.wait()
        return await read(reader, *given)

    monkeypatch.setattr(Reader, "read", read_late)
    async with served_engine() as (_, client):
        await create(client)
        await put(client, "a.txt", "Old apples.")
        await asyncio.sleep(0.1)  # it is taken up
        assert (await client.delete(f"{BASES}/docs/files/a.txt")).status_code == 204
        gone.set()
        await put(client, "b.txt", "New pears.")
        await settled(client)
    assert [one.getMessage() for one in caplog.records if one.levelname == "WARNING"] == []


@pytest.mark.sqlite
async def test_a_full_disk_fails_no_file_and_it_is_indexed_once_there_is_room() -> None:
    meanings = Meanings()
    async with served_engine(providing(meanings)) as (engine, client):
        await embedding(client)
        await create(client, embedding_model="meanings")
        meanings.gate.clear()
        await put(client, "a.md", "".join(f"# Part {n}\n\n{'An automobile. ' * 90}\n\n" for n in range(120)))
        await fill(engine)
        meanings.gate.set()
        await asyncio.sleep(1.5)
        assert (await client.get(f"{BASES}/docs/files/a.md")).json()["status"] == "indexing"
        await no_quota(engine)
        file = (await settled(client))["a.md"]
        assert (file["status"], file["chunk_count"]) == ("ready", 120)


async def test_an_upload_that_is_given_up_writes_into_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, write = threading.Event(), os.write

    def slow(target: int, data: bytes) -> int:
        if threading.current_thread() is not threading.main_thread():
            writing.set()
            time.sleep(0.3)
        return write(target, data)

    async def body() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n' + b"x" * (1 << 21)

    monkeypatch.setattr(os, "write", slow)
    headers = {"content-type": "multipart/form-data; boundary=x"}
    receiving = asyncio.create_task(received(body(), headers, tmp_path / "blob"))
    while not writing.is_set():
        await asyncio.sleep(0.01)
    receiving.cancel()
    await asyncio.wait([receiving])
    assert receiving.cancelled()
    with (tmp_path / "other").open("wb"):  # it may have the number that the blob had
        await asyncio.sleep(0.6)
    assert (tmp_path / "other").read_bytes() == b""
    assert not (tmp_path / "blob").exists()


async def test_readers_that_come_and_go_leave_nothing_open() -> None:
    def opened() -> int:
        return len(list(Path("/dev/fd").iterdir()))

    async with served_engine() as (_, client):
        await create(client)
        usual = 0
        for n in range(15):
            await put(client, f"{n}.txt", f"Apples {n}")
            await settled(client)
            if n == 3:
                await asyncio.sleep(0.5)
                usual = opened()
        with anyio.fail_after(5):
            while opened() > usual:
                await anyio.sleep(0.05)


async def test_who_may_read_may_not_write() -> None:
    async with served_engine() as (engine, client):
        await create(client)
        reader = {"authorization": f"Bearer {(await token_with(engine, 'agents:read')).token}"}
        assert (await client.get(f"{BASES}/docs/search?q=a", headers=reader)).status_code == 200
        assert (await client.post(BASES, json={"name": "a"}, headers=reader)).status_code == 403
        form = {"file": ("a.txt", b"a")}
        assert (await client.post(f"{BASES}/docs/files", files=form, headers=reader)).status_code == 403


@pytest.mark.sqlite
async def test_an_agent_without_a_link_costs_no_query() -> None:
    asked = 0

    def count(sql: str) -> None:
        nonlocal asked
        asked += "knowledge_" in sql

    provider = ScriptedProvider([MessageDelta(content="Hello")])
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine)
        for reader in engine.db._readers:
            await reader.set_trace_callback(count)
        await chat(client, "test", "Hi")
        assert asked == 0
        await create(client)
        await client.post(f"{BASES}/docs/agents/test")
        await chat(client, "test", "Hi")
        assert asked > 0


async def test_a_base_outlives_its_agents_and_a_plugin_sees_the_tool() -> None:
    async with served_engine() as (engine, client):
        await client.post("/api/v1/agents", json={"name": "clerk"})
        await create(client)
        await client.post(f"{BASES}/docs/agents/clerk")
        assert (await client.delete("/api/v1/agents/clerk")).status_code == 204
        assert (await client.get(f"{BASES}/docs")).json()["linked_agents"] == []
        tools = {tool["name"]: tool for tool in (await client.get("/api/v1/tools/metadata")).json()}
        assert tools["knowledge_search"]["security_zone"] == "safe"
        assert engine.data_dir.joinpath("files").stat().st_mode & 0o777 == 0o700
