"""What is done with each engine that is shipped, to see that it works where it runs."""

from pathlib import Path

import httpx
import pytest

from bytebrew.testing import ADMIN
from tests.documents import create, found, pdf, put, settled

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "shipped"
"""Where setup.sh puts what it makes."""


def archive() -> Path:
    """The folder form of the executable."""
    for path in (CACHE / "binary").glob("bytebrew-*.tar.gz"):
        return path
    pytest.skip("tests/shipped/setup.sh has not built the executable")


async def use(url: str) -> None:
    """A chat, and a PDF, which a process of its own reads within what the engine may do there."""
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {ADMIN}"}, timeout=30) as client:
        answer = await client.post("/api/v1/schemas/demo/chat", json={"message": "Hello", "stream": False})
        assert answer.status_code == 200, answer.text
        await create(client)
        await put(client, "zoo.pdf", pdf("The quokka sleeps"))
        assert [file["status"] for file in (await settled(client)).values()] == ["ready"]
        assert len(await found(client, "quokka")) == 1
