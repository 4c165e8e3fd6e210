"""Searches of a large knowledge base, by words alone and by meaning beside them."""

import random
import time
from collections.abc import Iterator, Mapping

from tests.bench.data import FREQUENCY, WORDS, admin, configure, know
from tests.bench.figures import percentile
from tests.bench.goals.table import Goal, Row
from tests.bench.goals.trees import Bench, Tree, engine, vendor
from tests.bench.servers import Server

MODEL = "vectors"
MOST = 25.0


def knowledge(bench: Bench) -> Iterator[object]:
    """One search after the other; their words are as likely as in the base."""
    with vendor(bench) as double:
        for words, more in (("by words", {}), ("with vectors", {"embedding_model": MODEL})):
            found = [_searches(bench, tree, double, words, more) for tree in bench.trees]
            name = f"{bench.amounts.chunks:,} chunks {words}"
            yield Row.alone(f"{name}: p50 ms", [percentile(one, 50) for one in found], Goal("<=", MOST, "ms"))
            yield Row("  p99 ms", None, [percentile(one, 99) for one in found], [])


def _searches(bench: Bench, tree: Tree, double: Server, words: str, more: Mapping[str, object]) -> list[float]:
    """Milliseconds of each."""
    dice = random.Random(1)
    found: list[float] = []
    with engine(bench, tree, words.replace(" ", "-")) as one:
        configure(one, double)
        with admin(one) as api:
            model = {"type": "openai_compatible", "kind": "embedding", "model_name": MODEL, "api_key": "sk-bench"}
            base_url = f"http://127.0.0.1:{double.port}/v1"
            api.post("/models", json={"name": MODEL, "base_url": base_url, **model}).raise_for_status()
            know(one, "bench", bench.amounts.chunks, **more)
            for _ in range(bench.effort.turns):
                question = "+".join(dice.choices(WORDS[20:], FREQUENCY[20:], k=4))
                started = time.perf_counter()
                api.get(f"/knowledge-bases/bench/search?q={question}").raise_for_status()
                found.append((time.perf_counter() - started) * 1000)
    return found
