"""kill -9 while files come and are indexed: nothing lost, nothing doubled, the search right throughout.

KNOWLEDGE_CRASHES says how often; the promise is of ten times.
"""

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from bytebrew_knowledge.reading.chunks import split
from bytebrew_knowledge.reading.text_formats import markdown

from bytebrew.testing import ADMIN
from tests.documents import BASES, stored_blobs
from tests.processes import Process, serving
from tests.stored import ON_POSTGRESQL, opened

CRASHES = int(os.environ.get("KNOWLEDGE_CRASHES", "3"))
PARTS = 800


def document(name: str, version: int) -> str:
    """A file of some hundred chunks with a fact that every version of it has, and one of its version."""
    parts = [f"# Part {n}\n\n{'Nothing of note is written here. ' * 20}\n" for n in range(PARTS)]
    parts[PARTS // 3] += f"\nThe steward of harbour {name} is called Amira.\n"
    parts[PARTS // 2] += f"\nThe ledger of harbour {name} has number v{version}x.\n"
    return "\n".join(parts)


@contextmanager
def client(process: Process) -> Iterator[httpx.Client]:
    """With the admin token."""
    headers = {"authorization": f"Bearer {ADMIN}"}
    with httpx.Client(base_url=process.url, headers=headers, timeout=30) as client:
        yield client


def upload(client: httpx.Client, name: str, version: int) -> None:
    content = document(name, version).encode()
    response = client.post(f"{BASES}/docs/files", files={"file": (f"{name}.md", content)})
    assert response.status_code == 201, response.text


def check_search(client: httpx.Client, ready: dict[str, int], wanted: dict[str, int]) -> None:
    """Each file that has ever been ready answers, once, and of its ledger no version but the last two."""
    for name in ready:
        response = client.get(f"{BASES}/docs/search", params={"q": f"Who is the steward of harbour {name}?"})
        hits = [hit for hit in response.json()["results"] if f"steward of harbour {name} is" in hit["text"]]
        assert len(hits) == 1, f"{name}: {response.text[:500]}"
        assert response.json()["results"][0]["text"] == hits[0]["text"]
        response = client.get(f"{BASES}/docs/search", params={"q": f"the ledger of harbour {name} has which number"})
        told = [hit["text"] for hit in response.json()["results"] if f"ledger of harbour {name} has" in hit["text"]]
        assert len(told) == 1
        assert any(f" v{version}x" in told[0] for version in range(ready[name], wanted[name] + 1))


def note(client: httpx.Client, ready: dict[str, int], wanted: dict[str, int]) -> bool:
    """Takes down what is ready; whether all is."""
    files = client.get(f"{BASES}/docs/files").json()
    assert len({file["file_name"] for file in files}) == len(files)
    assert not [file for file in files if file["status"] == "error"]
    for file in files:
        name = file["file_name"].removesuffix(".md")
        if file["status"] == "ready":
            ready[name] = max(ready.get(name, 0), wanted[name] - 1)
    return all(file["status"] == "ready" for file in files)


def content(data: Path, blob: str) -> Path:
    """A file with the content that an engine has kept under this name."""
    path = data / "content"
    path.write_bytes(stored_blobs(data)[blob])
    return path


def waiting(data: Path) -> int:
    """How many files an engine that is gone has left to be indexed."""
    with opened(data) as conn:
        found: int = conn.execute("select count(*) from knowledge_files where status = 'indexing'").fetchone()[0]
        return found


def check_file(data: Path, names: set[str]) -> None:
    """Each file has one whole index of its own bytes, and nothing else is there."""
    with opened(data) as conn:
        rows = conn.execute("select id, name, blob from knowledge_files").fetchall()
        assert {name for _, name, _ in rows} == {f"{name}.md" for name in names}
        assert {*stored_blobs(data)} == {blob for _, _, blob in rows}
        assert conn.execute("select count(*) from knowledge_indexes").fetchone()[0] == len(rows)
        total = 0
        for file_id, _, blob in rows:
            stored = conn.execute(
                """select c.position, c.heading, c.text from knowledge_chunks c join knowledge_indexes i
                on i.id = c.index_id where i.file_id = ? and i.state = 'live' order by c.position""",
                (file_id,),
            ).fetchall()
            wanted = [(n, *chunk) for n, chunk in enumerate(split(markdown(content(data, blob))), 1)]
            assert [tuple(row) for row in stored] == wanted
            total += len(wanted)
        assert conn.execute("select count(*) from knowledge_chunks").fetchone()[0] == total
        if not ON_POSTGRESQL:
            conn.execute("insert into knowledge_words (knowledge_words, rank) values ('integrity-check', 1)")


@pytest.mark.slow
@pytest.mark.timeout(60 + 20 * CRASHES)
def test_kill_9_while_indexing_loses_and_doubles_nothing(tmp_path: Path) -> None:
    chance = random.Random(CRASHES)
    wanted: dict[str, int] = {}
    ready: dict[str, int] = {}
    interrupted = 0
    with serving(tmp_path) as process, client(process) as here:
        assert here.post(BASES, json={"name": "docs"}).status_code == 201
        for name in ("alpha", "beta"):
            wanted[name] = 1
            upload(here, name, 1)
    interrupted += bool(waiting(tmp_path))
    for crash in range(CRASHES):
        with serving(tmp_path) as process, client(process) as here:
            check_search(here, ready, wanted)
            note(here, ready, wanted)
            timer = threading.Timer(chance.uniform(0.1, 0.6), process.kill)
            timer.start()
            try:
                for name in ("alpha", f"crash{crash}a", f"crash{crash}b", "beta", f"crash{crash}c"):
                    wanted[name] = wanted.get(name, 0) + 1  # it may have come though nobody says so
                    upload(here, name, wanted[name])
                while timer.is_alive():
                    check_search(here, ready, wanted)
                    note(here, ready, wanted)
            except (httpx.TransportError, httpx.StreamError):
                pass
            timer.join()
        interrupted += bool(waiting(tmp_path))
    with serving(tmp_path) as process, client(process) as here:
        until = time.monotonic() + 60
        while not note(here, ready, wanted):
            check_search(here, ready, wanted)
            assert time.monotonic() < until
        names = {file["file_name"].removesuffix(".md") for file in here.get(f"{BASES}/docs/files").json()}
        assert {"alpha", "beta"} <= names <= wanted.keys()
        check_search(here, ready, wanted)
        time.sleep(1)  # what is left of the old indexes is swept away
        assert process.stop() == 0
    check_file(tmp_path, names)
    assert interrupted
