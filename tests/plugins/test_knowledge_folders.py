"""Knowledge bases of the configuration file: who may name a folder, and that a base is as its folder is."""

import asyncio
import json
import os
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from bytebrew_knowledge import folders, knowledge, uploads

from bytebrew import MessageDelta, ToolCall
from bytebrew.engine import Engine
from bytebrew.testing import ADMIN, ScriptedProvider, chat, providing, scripted_schema, served_engine
from tests.documents import BASES, found, pdf, put, settled, stored_blobs
from tests.plugins.test_knowledge import Meanings, blobs, embedding, knows
from tests.processes import Process, serving
from tests.stored import ON_POSTGRESQL, opened
from tests.tables import check_refusal, token_with

CONFIG = "/api/v1/config"
YAML = {"content-type": "application/x-yaml"}
BARE = {"BYTEBREW_DISABLED_PLUGINS": "demo"}
HANDBOOK = "agents: {clerk: {}}\nknowledge:\n  handbook: {description: Rules, folder: ./docs, agents: [clerk]}\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where the operator's file lies, beside a folder of documents."""
    docs = tmp_path / "home" / "docs"
    (docs / "hr").mkdir(parents=True)
    (docs / "a.md").write_text("# Lunch\n\nApples are at noon.")
    (docs / "hr" / "b.txt").write_text("Thirty days of vacation.")
    return tmp_path / "home"


@asynccontextmanager
async def operated(
    home: Path, text: str = HANDBOOK, **settings: str
) -> AsyncIterator[tuple[Engine, httpx.AsyncClient]]:
    """An engine with this file."""
    (home / "bytebrew.yaml").write_text(text)
    given = {**BARE, "BYTEBREW_CONFIG": str(home / "bytebrew.yaml"), **settings}
    async with served_engine(settings=given, data=home / "data") as served:
        yield served


async def reloaded(client: httpx.AsyncClient, base: str = "handbook") -> dict[str, Any]:
    """The files of a base by name, right after a reload."""
    answer = await client.post(f"{CONFIG}/reload")
    assert answer.status_code == 200, answer.text
    return {file["file_name"]: file for file in (await client.get(f"{BASES}/{base}/files")).json()}


async def imported(client: httpx.AsyncClient, text: str, query: str = "", token: str = "") -> httpx.Response:
    headers = YAML | ({"authorization": f"Bearer {token}"} if token else {})
    return await client.post(f"{CONFIG}/import{query}", content=text.encode(), headers=headers)


async def exported(client: httpx.AsyncClient) -> str:
    return (await client.get(f"{CONFIG}/export")).text


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the plugin has warned of."""
    return [one.getMessage() for one in caplog.records if one.name.startswith("bytebrew_knowledge")]


# The section.


async def test_a_base_goes_out_and_comes_in_with_the_fields_that_it_has() -> None:
    async with served_engine(providing(Meanings()), settings=BARE) as (_, client):
        await embedding(client)
        text = """
agents: {clerk: {}, writer: {}}
knowledge:
  bare: {}
  handbook:
    description: Rules
    embedding_model_id: meanings
    linked_agents: [writer, clerk]
"""
        answer = (await imported(client, text)).json()
        assert (answer["knowledge_imported"], answer["warnings"][2:]) == (2, [])
        base = (await client.get(f"{BASES}/handbook")).json()
        assert (base["description"], base["embedding_model"], base["folder"]) == ("Rules", "meanings", None)
        assert base["linked_agents"] == ["clerk", "writer"]
        assert await knows(client, "clerk") is True
        section = (await exported(client)).partition("\nknowledge:\n")[2]
        assert section.splitlines() == [
            *("  bare: {}", "  handbook:", "    description: Rules", "    embedding_model: meanings"),
            *("    agents:", "      - clerk", "      - writer"),
        ]


async def test_links_of_the_file_replace_those_that_there_are() -> None:
    async with served_engine(settings=BARE) as (_, client):
        await imported(client, "agents: {clerk: {}, writer: {}}\nknowledge: {handbook: {agents: [clerk]}}")
        answer = (await imported(client, "knowledge: {handbook: {agents: [writer, writer]}}")).json()
        assert [one for one in answer["changes"] if one["section"] == "knowledge"] == [
            {
                "section": "knowledge",
                "name": "handbook",
                "action": "update",
                "fields": [{"field": "agents", "before": ["clerk"], "after": ["writer"]}],
            }
        ]
        await imported(client, "knowledge: {handbook: {description: Other}}")
        assert (await client.get(f"{BASES}/handbook")).json()["linked_agents"] == ["writer"]
        await imported(client, "knowledge: {handbook: {agents: []}}")
        assert (await client.get(f"{BASES}/handbook")).json()["linked_agents"] == []


async def test_an_agent_that_is_not_there_is_named_with_its_place() -> None:
    async with served_engine(settings=BARE) as (_, client):
        text = "agents: {clerk: {}}\nknowledge:\n  handbook:\n    agents: [clerk, nobody,\n      none]\n"
        said = check_refusal(await imported(client, text))
        assert [(one["path"], one["line"], one["column"]) for one in said["details"]] == [
            ("$.knowledge.handbook.agents[1]", 4, 21),
            ("$.knowledge.handbook.agents[2]", 5, 7),
        ]
        assert (await client.get(BASES)).json() == []
        said = check_refusal(await imported(client, "knowledge: {handbook: {embedding_model: gone}}"))
        assert said["details"][0]["path"] == "$.knowledge.handbook.embedding_model"


async def test_knowledge_that_is_switched_off_stays_off_and_is_told() -> None:
    async with served_engine(settings=BARE) as (_, client):
        await imported(client, "agents: {clerk: {capabilities: [{type: knowledge, enabled: false}]}}")
        answer = (await imported(client, "knowledge: {handbook: {agents: [clerk]}}")).json()
        assert answer["warnings"][-1]["message"] == "Agent 'clerk' is linked, but its capability knowledge is off"
        assert await knows(client, "clerk") is False


async def test_export_import_export_gives_equal_bytes_also_where_links_have_no_capability(tmp_path: Path) -> None:
    async with (
        served_engine(providing(Meanings()), settings=BARE) as (_, first),
        served_engine(providing(Meanings()), settings=BARE) as (_, second),
    ):
        await embedding(first)
        (tmp_path / "docs").mkdir()
        text = f"""
agents: {{on: {{}}, off: {{}}, none: {{}}}}
knowledge:
  handbook: {{folder: "{tmp_path}/docs", embedding_model: meanings, agents: [none, off, on]}}
  other: {{agents: [off]}}
"""
        assert (await imported(first, text)).status_code == 200
        await first.patch("/api/v1/agents/off/capabilities/knowledge", json={"enabled": False})
        await first.delete("/api/v1/agents/none/capabilities/knowledge")
        once = await exported(first)
        assert '    agents:\n      - "off"\n      - "on"\n' in once
        assert (await imported(second, once)).status_code == 200
        assert await exported(second) == once
        assert (await second.get(f"{BASES}/handbook")).json()["linked_agents"] == ["off", "on"]
        assert await knows(second, "off") is False
        for query in ("", "?mode=replace"):
            again = (await imported(second, once, query)).json()
            assert {one["action"] for one in again["changes"]} == {"unchanged"}
        await second.delete("/api/v1/models/meanings")
        assert "embedding_model" not in (await exported(second)).partition("\nknowledge:\n")[2]


async def test_replace_takes_a_base_with_its_links_and_files_and_a_dry_run_takes_nothing() -> None:
    async with served_engine(settings=BARE) as (engine, client):
        await imported(client, "agents: {clerk: {}}\nknowledge: {handbook: {agents: [clerk]}, other: {}}")
        await put(client, "a.txt", "Apples", "handbook")
        await settled(client, "handbook")
        for query in ("?mode=replace&dry_run=true", "?mode=replace"):
            answer = (await imported(client, "knowledge: {other: {}}", query)).json()
            assert [one for one in answer["changes"] if one["action"] == "delete"] == [
                {"section": "knowledge", "name": "handbook", "action": "delete", "fields": []}
            ]
            assert ((await client.get(f"{BASES}/handbook")).status_code == 404) == (query == "?mode=replace")
            assert len(await blobs(engine)) == ("dry_run" in query)


async def test_only_an_admin_may_name_a_folder(home: Path) -> None:
    async with operated(home) as (engine, client):
        token = (await token_with(engine, "config")).token
        for text in (
            "knowledge: {other: {folder: /etc}}",
            "knowledge: {handbook: {folder: /etc}}",
            "agents: {writer: {knowledge: ./docs}}",
        ):
            for query in ("", "?dry_run=true"):
                said = check_refusal(await imported(client, text, query, token))
                assert said["details"][0]["path"].endswith(".folder")
                assert "scope 'admin'" in said["details"][0]["message"]
        assert [base["folder"] for base in (await client.get(BASES)).json()] == ["./docs"]
        same = "knowledge: {handbook: {description: New, folder: ./docs, agents: []}}"
        assert (await imported(client, same, token=token)).status_code == 200
        assert (await client.get(f"{BASES}/handbook")).json()["description"] == "New"
        assert (await imported(client, "knowledge: {handbook: {folder: ./docs/hr}}")).status_code == 200
        files = {file["file_name"] for file in (await client.get(f"{BASES}/handbook/files")).json()}
        assert files == {"b.txt"}  # an import looks into the folder as a reload does


async def test_the_docs_form_of_an_agent_is_a_base_that_it_searches(home: Path) -> None:
    search = [ToolCall("knowledge_search", {"query": "vacation"})]
    provider = ScriptedProvider(search, [MessageDelta(content="Thirty")])
    async with served_engine(providing(provider), settings=BARE, data=home / "data") as (engine, client):
        await scripted_schema(engine)
        answer = (await imported(client, f"agents: {{test: {{knowledge: '{home}/docs/'}}}}")).json()
        assert {f"{one['section']}.{one['name']}": one["action"] for one in answer["changes"]} == {
            "agents.test": "update",
            "knowledge.test": "create",
        }
        assert (await client.get("/api/v1/agents/test")).json()["has_knowledge"] is True
        assert set(await settled(client, "test")) == {"a.md", "hr/b.txt"}
        events = await chat(client, "test", "How long may I be away?")
        output = json.loads(next(event.data for event in events if event.event == "tool_result"))["output"]
        assert output == "[1] Source: hr/b.txt (part 1)\nThirty days of vacation."


# Folders.


async def test_a_base_is_as_its_folder_is_at_the_start_and_at_every_reload(home: Path) -> None:
    docs = home / "docs"
    async with operated(home) as (engine, client):
        base = (await client.get(f"{BASES}/handbook")).json()
        assert (base["folder"], base["file_count"], base["linked_agents"]) == ("./docs", 2, ["clerk"])
        assert await knows(client, "clerk") is True
        files = await settled(client, "handbook")
        assert {(name, file["status"], file["source"]) for name, file in files.items()} == {
            ("a.md", "ready", "folder"),
            ("hr/b.txt", "ready", "folder"),
        }
        (docs / "a.md").write_text("# Lunch\n\nPears are at one.")
        (docs / "new").mkdir()
        (docs / "new" / "c.html").write_text("<p>Plums are late.")
        (docs / "hr" / "b.txt").unlink()
        after = await reloaded(client)
        assert set(after) == {"a.md", "new/c.html"}
        assert after["a.md"]["id"] == files["a.md"]["id"]
        await settled(client, "handbook")
        assert await found(client, "vacation apples", "handbook") == []
        assert [hit["file_name"] for hit in await found(client, "pears", "handbook")] == ["a.md"]
        assert [hit["file_name"] for hit in await found(client, "plums", "handbook", file="new/c.html")]
        assert len(await blobs(engine)) == 2
    (docs / "a.md").unlink()
    async with operated(home) as (_, client):
        assert set(await settled(client, "handbook")) == {"new/c.html"}


async def test_what_has_not_changed_is_neither_read_nor_indexed_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    copied = uploads.copied

    def watched(source: Path, seen: Any, name: str, *args: Any, **more: Any) -> Any:
        read.append(name)
        return copied(source, seen, name, *args, **more)

    async with operated(home) as (engine, client):
        before = await settled(client, "handbook"), await blobs(engine)
        monkeypatch.setattr(uploads, "copied", watched)
        assert (await reloaded(client), await blobs(engine)) == before
        assert read == []
        os.utime(home / "docs" / "a.md")  # the same bytes
        for _ in range(2):
            assert (await reloaded(client), await blobs(engine)) == before
            assert read == ["a.md"]


async def test_a_file_that_is_exchanged_while_it_is_copied_is_not_taken(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "b.txt").write_text("Secret.")
    copied = uploads.copied

    def exchanged(source: Path, *args: Any, **more: Any) -> Any:
        if source.parent.name == "hr":
            source.parent.rename(tmp_path / "hr")
            source.parent.symlink_to(tmp_path / "outside")
        return copied(source, *args, **more)

    monkeypatch.setattr(uploads, "copied", exchanged)
    async with operated(home) as (_, client):
        files = await settled(client, "handbook")
        assert files["hr/b.txt"]["status_message"] == "It cannot be read: It was exchanged for another just now"
        assert await found(client, "secret", "handbook") == []


async def test_a_disk_that_takes_its_time_holds_up_neither_the_start_nor_the_base(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    look = folders.scan

    def slow(*args: Any) -> Any:
        time.sleep(0.5)
        return look(*args)

    monkeypatch.setattr(folders, "scan", slow)
    monkeypatch.setattr(knowledge, "START_SECONDS", 0.05)
    async with operated(home) as (_, client):
        assert (await client.get(f"{BASES}/handbook")).json()["file_count"] == 0
        assert set(await reloaded(client)) == {"a.md", "hr/b.txt"}
        monkeypatch.setattr(folders, "SECONDS", 0.1)
        assert set(await reloaded(client)) == {"a.md", "hr/b.txt"}
        assert any("takes longer than 0.1 s; what is indexed stays" in words for words in warned(caplog))


async def test_after_a_reload_files_are_listed_whatever_indexing_takes(home: Path) -> None:
    meanings = Meanings()
    (home / "bytebrew.yaml").write_text("knowledge: {handbook: {folder: docs, embedding_model: meanings}}")
    async with served_engine(providing(meanings), settings=BARE, data=home / "data") as (_, client):
        await embedding(client)
    meanings.gate.clear()
    settings = {**BARE, "BYTEBREW_CONFIG": str(home / "bytebrew.yaml")}
    async with served_engine(providing(meanings), settings=settings, data=home / "data") as (_, client):
        (home / "docs" / "c.md").write_text("More.")
        files = await reloaded(client)
        assert {name: file["status"] for name, file in files.items()} == dict.fromkeys(
            ("a.md", "c.md", "hr/b.txt"), "indexing"
        )
        meanings.gate.set()
        assert {file["status"] for file in (await settled(client, "handbook")).values()} == {"ready"}


async def test_what_a_person_sent_stays_and_comes_before_the_folders(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with operated(home) as (_, client):
        await put(client, "sent.txt", "Sent.", "handbook")
        await put(client, "a.md", "Sent too.", "handbook")
        await settled(client, "handbook")
        (home / "docs" / "sent.txt").write_text("Of the folder.")
        files = await reloaded(client)
        assert {name: file["source"] for name, file in files.items()} == {
            "a.md": "upload",
            "sent.txt": "upload",
            "hr/b.txt": "folder",
        }
        assert [hit["text"] for hit in await found(client, "sent", "handbook", file="a.md")] == ["Sent too."]
        assert any("'sent.txt' was sent by a person" in words for words in warned(caplog))
        assert (await client.delete(f"{BASES}/handbook/files/a.md")).status_code == 204
        assert (await reloaded(client))["a.md"]["source"] == "folder"
        text = "knowledge: {handbook: {folder: ''}}"
        (home / "bytebrew.yaml").write_text(text)
        assert set(await reloaded(client)) == {"sent.txt"}
        assert (await client.get(f"{BASES}/handbook")).json()["folder"] is None


async def test_a_folder_that_cannot_be_read_leaves_the_base_as_it_is(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with operated(home) as (_, client):
        before = await settled(client, "handbook")
        (home / "docs").rename(home / "away")
        assert await reloaded(client) == before
        assert any("No such file or directory; what is indexed stays" in words for words in warned(caplog))
        told = (await imported(client, HANDBOOK)).json()["warnings"][-1]
        assert (told["path"], told["line"]) == ("$.knowledge.handbook", 3)
        assert told["message"].startswith(f"The folder {home}/docs cannot be read: No such file")
        (home / "docs").write_text("no folder")
        assert await reloaded(client) == before
        assert len(await found(client, "vacation", "handbook")) == 1
        (home / "docs").unlink()
        (home / "away").rename(home / "docs")
        assert set(await reloaded(client)) == set(before)


async def test_files_that_cannot_be_taken_are_told_and_stop_no_others(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    docs = home / "docs"
    (docs / "empty.txt").touch()
    (docs / "large.txt").write_text("x" * 5000)
    (docs / "lie.pdf").write_text("no PDF")
    (docs / "lie.md").write_bytes(pdf("hidden"))
    (docs / os.fsdecode(b"latin-\xe9.txt")).write_text("Its name is not UTF-8.")
    (docs / "two\nlines.txt").write_text("Its name has two lines.")
    (docs / "z.txt").write_text("The last.")
    async with operated(home, BYTEBREW_MAX_UPLOAD_BYTES="4096") as (engine, client):
        files = await settled(client, "handbook")
        told = {name: file["status_message"] for name, file in files.items() if file["status"] == "error"}
        assert told == {
            "empty.txt": "'empty.txt' is empty",
            "large.txt": "'large.txt' is larger than 4096 bytes; see BYTEBREW_MAX_UPLOAD_BYTES",
            "lie.pdf": "'lie.pdf' does not begin as a pdf file does",
            "lie.md": "'lie.md' does not begin as a md file does",
        }
        assert {name for name, file in files.items() if file["status"] == "ready"} == {"a.md", "hr/b.txt", "z.txt"}
        words = "\n".join(warned(caplog))
        assert all(name in words for name in [*told, r"latin-\udce9.txt", r"two\nlines.txt"])
        assert files["large.txt"]["file_size"] == 5000
        lie = files["lie.pdf"]["id"]
        assert (await client.post(f"{BASES}/handbook/files/{lie}/reindex")).status_code == 202
        assert (await settled(client, "handbook"))["lie.pdf"] == files["lie.pdf"]
        (docs / "empty.txt").write_text("Full.")
        assert (await reloaded(client))["empty.txt"]["status"] == "indexing"
        (docs / "a.md").write_text("x" * 5000)
        await settled(client, "handbook")
        assert (await reloaded(client))["a.md"]["status"] == "error"
        assert [hit["file_name"] for hit in await found(client, "apples", "handbook")] == ["a.md"]  # as it was
        before = await settled(client, "handbook")
        assert (await client.post(f"{BASES}/handbook/files/a.md/reindex")).status_code == 202
        assert await settled(client, "handbook") == before
        assert len(await blobs(engine)) == 4
        (docs / "a.md").write_text("# Lunch\n\nApples are at noon.")
        await reloaded(client)
        assert (await settled(client, "handbook"))["a.md"]["status"] == "ready"


async def test_a_folder_within_that_cannot_be_read_keeps_its_files(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scandir = os.scandir

    def refusing(path: Any) -> Any:
        if str(path).endswith("/hr"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    async with operated(home) as (_, client):
        before = await settled(client, "handbook")
        (home / "docs" / "a.md").unlink()
        with monkeypatch.context() as patch:
            patch.setattr(os, "scandir", refusing)
            assert await reloaded(client) == {"hr/b.txt": before["hr/b.txt"]}
        assert any("'hr/' cannot be read: Permission denied" in words for words in warned(caplog))


async def test_what_does_not_belong_to_the_folder_is_left_out(home: Path, tmp_path: Path) -> None:
    docs = home / "docs"
    secret = tmp_path / "secret.txt"
    secret.write_text("Secret.")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "c.txt").write_text("Outside.")
    for name in (".hidden.md", ".git/a.md", "program.py", "txt", "README"):
        (docs / name).parent.mkdir(exist_ok=True)
        (docs / name).write_text("Left out.")
    for name, target in (
        *(("out.txt", secret), ("up.txt", Path("../../secret.txt")), ("outside", tmp_path / "outside")),
        *(("loop", Path()), ("gone.txt", Path("nothing.txt")), ("self.txt", Path("self.txt"))),
        *(("pipe2.txt", Path("pipe.txt")), ("inside.md", Path(".git/a.md"))),
    ):
        (docs / name).symlink_to(target)
    os.mkfifo(docs / "pipe.txt")
    (docs / "folder.txt").mkdir()
    async with operated(home) as (_, client):
        files = await settled(client, "handbook")
        assert set(files) == {"a.md", "hr/b.txt", "inside.md"}
        assert await found(client, "secret outside", "handbook") == []


async def test_nothing_of_the_data_folder_is_taken(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    (home / "data").mkdir()
    (home / "data" / "notes.txt").write_text("Of the engine.")
    (home / "link.txt").symlink_to("data/notes.txt")
    text = "knowledge: {all: {folder: .}, own: {folder: data}, within: {folder: data/files}}"
    async with operated(home, text) as (_, client):
        assert set(await settled(client, "all")) == {"docs/a.md", "docs/hr/b.txt"}
        for base in ("own", "within"):
            assert await settled(client, base) == {}
        assert sum("the engine's own data folder" in words for words in warned(caplog)) == 2


async def test_a_folder_that_holds_too_much_is_cut_and_told(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(folders, "MOST_FILES", 3)
    for n in range(5):
        (home / "docs" / f"{n}.txt").write_text("Apples")
    async with operated(home) as (_, client):
        assert set(await settled(client, "handbook")) == {"0.txt", "1.txt", "2.txt"}
        assert any("only the first 3 files are taken" in words for words in warned(caplog))


def test_a_path_of_too_many_bytes_is_left_out_though_it_has_few_characters(tmp_path: Path) -> None:
    docs, data = tmp_path / "docs", tmp_path / "data"
    data.mkdir()
    deep = docs.joinpath(*["\U00010400" * 60] * 11)
    deep.mkdir(parents=True)
    (deep / "a.txt").write_text("Its name has 2,700 bytes.")
    seen = folders.scan(docs, data)
    assert not seen.entries
    assert "is no name that could be kept" in seen.faults[0]


def test_a_look_is_bounded_in_what_it_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docs, data = tmp_path / "docs", tmp_path
    data = tmp_path / "data"
    data.mkdir()
    deep = docs.joinpath(*["d"] * 510)
    deep.mkdir(parents=True)
    (deep / "a.txt").write_text("Its name has more than 1000 characters.")
    (docs / "0.txt").write_text("Before.")
    seen = folders.scan(docs, data)
    assert [one.name for one in seen.entries] == ["0.txt"]
    assert len(seen.faults) == 1
    assert "is no name that could be kept" in seen.faults[0]
    monkeypatch.setattr(folders, "MOST_ENTRIES", 10)
    seen = folders.scan(docs, data)
    assert [one.name for one in seen.entries] == ["0.txt"]
    assert "only the first 1 files are taken" in seen.faults[0]


async def test_a_folder_counts_from_where_the_engine_was_started_where_there_is_no_file(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    async with served_engine(settings=BARE, data=home / "data") as (_, client):
        monkeypatch.chdir("/")
        assert (await imported(client, HANDBOOK)).json()["warnings"][1:] == []
        assert set(await settled(client, "handbook")) == {"a.md", "hr/b.txt"}


async def test_two_reloads_at_a_time_take_each_file_once(home: Path) -> None:
    async with operated(home, "{}") as (engine, client):
        (home / "bytebrew.yaml").write_text(HANDBOOK)
        for n in range(100):
            (home / "docs" / f"{n}.txt").write_text(f"Apples {n}")
        answers = await asyncio.gather(*(reloaded(client) for _ in range(4)))
        assert {len(files) for files in answers} == {102}
        await settled(client, "handbook")
        assert len(await blobs(engine)) == 102


async def test_a_base_that_is_deleted_while_its_folder_is_read_leaves_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    going = asyncio.Event()
    copied = uploads.copied
    loop = asyncio.get_running_loop()

    def slow(*args: Any, **more: Any) -> Any:
        loop.call_soon_threadsafe(going.set)
        time.sleep(0.2)
        return copied(*args, **more)

    async with operated(home, "{}") as (engine, client):
        monkeypatch.setattr(uploads, "copied", slow)
        (home / "bytebrew.yaml").write_text("knowledge: {handbook: {folder: docs}}")
        reloading = asyncio.create_task(client.post(f"{CONFIG}/reload"))
        await going.wait()
        assert (await client.delete(f"{BASES}/handbook")).status_code == 204
        assert (await reloading).status_code == 200
        assert (await client.get(BASES)).json() == []
        assert await blobs(engine) == []


async def test_a_reload_clears_away_no_file_that_is_being_sent(home: Path) -> None:
    async with operated(home) as (engine, client):
        sent = asyncio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="s.txt"\r\n\r\n' + b"x" * (1 << 21)
            await sent.wait()
            yield b"\r\n--x--\r\n"

        kind = {"content-type": "multipart/form-data; boundary=x"}
        sending = asyncio.create_task(client.post(f"{BASES}/handbook/files", content=slowly(), headers=kind))
        with anyio.fail_after(5):
            while len(await blobs(engine)) < 3:
                await anyio.sleep(0.02)
        (engine.data_dir / "files" / "left").write_text("by a crash")
        os.utime(engine.data_dir / "files" / "left", (0, 0))
        await reloaded(client)
        assert "left" not in await blobs(engine)
        sent.set()
        assert (await sending).status_code == 201
        assert (await settled(client, "handbook"))["s.txt"]["status"] == "ready"


def known_files(data: Path) -> int:
    with opened(data) as conn:
        return int(conn.execute("select count(*) from knowledge_files").fetchone()[0])


def kill_beyond(process: Process, data: Path, count: int) -> None:
    """Kills an engine once it knows more files than that, whatever the machine's speed."""
    until = time.monotonic() + 20
    while known_files(data) <= count and time.monotonic() < until:
        time.sleep(0.001)
    process.kill()


@pytest.mark.slow
def test_kill_9_while_a_folder_is_read_loses_nothing(home: Path) -> None:
    (home / "bytebrew.yaml").write_text(HANDBOOK)
    settings = {**BARE, "BYTEBREW_CONFIG": str(home / "bytebrew.yaml")}
    headers = {"authorization": f"Bearer {ADMIN}"}
    total, between = 2, 0
    for more in (0, 20, 60, 120):
        with serving(home / "data", settings) as process:
            for n in range(total, total + 300):
                (home / "docs" / f"{n}.md").write_text(f"# Part {n}\n\nApples of basket b{n}x.")
            before, total = total, total + 300
            killer = threading.Thread(target=kill_beyond, args=(process, home / "data", before + more))
            killer.start()
            with suppress(httpx.TransportError):
                httpx.post(f"{process.url}{CONFIG}/reload", headers=headers, timeout=30)
            killer.join()
        between += before < known_files(home / "data") < total
    assert between
    with serving(home / "data", settings) as process, httpx.Client(base_url=process.url, headers=headers) as client:
        assert client.post(f"{CONFIG}/reload").status_code == 200
        until = time.monotonic() + 40
        while (base := client.get(f"{BASES}/handbook").json())["status"] == "indexing":
            assert time.monotonic() < until
            time.sleep(0.1)
        assert (base["file_count"], base["indexed_files"]) == (total, total)
        for n in (2, total - 1):
            hits = client.get(f"{BASES}/handbook/search", params={"q": f"b{n}x"}).json()["results"]
            assert [hit["file_name"] for hit in hits] == [f"{n}.md"]
        assert process.stop() == 0
    if not ON_POSTGRESQL:  # where what nothing refers to goes by its age, as another node may be about to refer to it
        assert len(stored_blobs(home / "data")) == total


@pytest.mark.parametrize(("more", "query"), [("capabilities: [{type: memory}]", ""), ("", "?mode=replace")])
async def test_an_agent_that_a_base_names_keeps_its_knowledge_whatever_its_own_item_lists(
    more: str, query: str
) -> None:
    async with served_engine(settings=BARE) as (_, client):
        text = f"agents: {{clerk: {{{more}}}}}\nknowledge: {{handbook: {{agents: [clerk]}}}}"
        for n in range(3):
            answer = await imported(client, text, query)
            assert await knows(client, "clerk") is True
            assert {one["action"] for one in answer.json()["changes"]} == {"unchanged" if n else "create"}
