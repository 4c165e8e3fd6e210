"""The same documents and queries on both stores: the same is found, in the same order."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest

from bytebrew.testing import served_engine
from tests.documents import create, found, put, settled
from tests.facts import documents, facts

FILES = 60
MOST = 50
TEXTS = (
    "Cafés on the Straße serve crème brûlée; the café's owner runs it.",
    "The state-of-the-art pump of pump-house 3.14 pumps; see https://pumps.example/a_b?c=d or ops@pumps.example.",
    "snake_case and CamelCase, O'Neil's don't; 100% of \"quotes\" \\\\ back & slash | pipe ! bang : colon * <-> near",
    "日本語 и русский текст, עברית; ½ ² Ⅳ naïve coöperate",
    f"A token of its own: {'q' * 1200} and {'z' * 500}.",
    "the the the the and and of of to",
)
QUERIES = (
    *("cafe", "CAFÉS", "running", "runs", "strasse", "straße", "creme", "pump house", "pump-house", "3.14"),
    *("pumps.example", "a_b", "c=d", "snake_case", "case_snake", "camelcase", "o'neil", "dont", "don't", "100%"),
    *("& | ! : * <->", "'", '"', "\\", "日本語", "русский", "²", "½", "naive", "cooperate", "q" * 1200, "z" * 500),
    *("the", "the pump", "NOT the", "pump AND house", "NEAR(pump house)", "heading:pump", "pum*", "^pump", "_"),
)


@asynccontextmanager
async def both(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """Clients of an engine on SQLite, and of one on PostgreSQL."""
    async with AsyncExitStack() as stack:
        clients = []
        for store in ("", "postgresql"):
            monkeypatch.setenv("BYTEBREW_TEST_STORE", store)
            clients.append((await stack.enter_async_context(served_engine()))[1])
        yield clients[0], clients[1]


async def ranked(
    client: httpx.AsyncClient, query: str, base: str = "docs"
) -> list[tuple[float, list[tuple[str, int]]]]:
    """What a query finds: the file and the part of each hit, and hits of one score as one, as any may come first."""
    places: dict[float, list[tuple[str, int]]] = {}
    for hit in await found(client, query, limit=MOST):
        places.setdefault(hit["score"], []).append((hit["file_name"], hit["position"]))
    groups = [(score, sorted(hits)) for score, hits in sorted(places.items(), reverse=True)]
    return groups[:-1] if sum(len(hits) for _, hits in groups) == MOST else groups  # of the last any may be cut off


async def test_words_find_the_same_in_the_same_order(monkeypatch: pytest.MonkeyPatch) -> None:
    async with both(monkeypatch) as clients:
        for client in clients:
            await create(client)
            for n, text in enumerate(TEXTS):
                await put(client, f"{n}.md", f"# Part {n}\n\n{text}")
            for name, text in documents(FILES):
                await put(client, name, text)
            await settled(client)
        some = 0
        for query in (*QUERIES, *(fact.question for fact in facts(FILES))):
            one, other = [await ranked(client, query) for client in clients]
            assert one == other, query
            some += bool(one)
        assert some > FILES / 2
        hits = [await found(client, "pump-house cafes snake_case", limit=MOST) for client in clients]
        terms = [{(hit["file_name"], hit["position"]): hit["matched_terms"] for hit in each} for each in hits]
        assert terms[0] == terms[1]
        assert any(terms[0].values())
