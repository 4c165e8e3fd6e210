"""Searches of a large knowledge base, by words alone and by meaning beside them."""

import random
import time
from collections.abc import Iterator

from tests.bench.data import FREQUENCY, WORDS, admin, configure, know
from tests.bench.figures import percentile
from tests.bench.goals.table import Goal, Row
from tests.bench.goals.trees import Bench, Tree, engine, vendor
from tests.bench.servers import Server

MOST = 25.0
DIMENSIONS = (384, 1536)
"""Of the vectors of small and of large models."""
SECONDS = 60.0
"""After which no further search begins, as a tree may take seconds for one."""


def knowledge(bench: Bench) -> Iterator[object]:
    """One search after the other; their words are as likely as in the base."""
    with vendor(bench) as double:
        for dimensions in (0, *DIMENSIONS):
            found = [_searches(bench, tree, double, dimensions) for tree in bench.trees]
            name = f"{bench.amounts.chunks:,} chunks " + (f"of {dimensions:,} dimensions" if dimensions else "by words")
            yield Row.alone(f"{name}: p50 ms", [percentile(one, 50) for one in found], Goal("<=", MOST, "ms"))
            yield Row("  p99 ms", None, [percentile(one, 99) for one in found], [])


def _searches(bench: Bench, tree: Tree, double: Server, dimensions: int) -> list[float]:
    """Milliseconds of each; without dimensions, by words alone."""
    model = f"vectors-{dimensions}"
    dice = random.Random(1)
    found: list[float] = []
    with engine(bench, tree, model) as one:
        configure(one, double)
        with admin(one) as api:
            body = {"type": "openai_compatible", "kind": "embedding", "model_name": model, "api_key": "sk-bench"}
            base_url = f"http://127.0.0.1:{double.port}/v1"
            api.post("/models", json={"name": model, "base_url": base_url, **body}).raise_for_status()
            know(one, "bench", bench.amounts.chunks, embedding_model=model if dimensions else None)
            until = time.perf_counter() + SECONDS
            while len(found) < bench.effort.turns and time.perf_counter() < until:
                question = "+".join(dice.choices(WORDS[20:], FREQUENCY[20:], k=4))
                started = time.perf_counter()
                api.get(f"/knowledge-bases/bench/search?q={question}").raise_for_status()
                found.append((time.perf_counter() - started) * 1000)
    return found
