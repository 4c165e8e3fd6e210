"""A browser's own EventSource in a page of another origin, which sends no headers: a ticket opens the stream."""

from pathlib import Path

import httpx
import pytest

from tests.peers.pages import CHROMIUM, serving_pages
from tests.peers.served import SCHEMA, served, slow, steps

pytestmark = [
    pytest.mark.peers,
    pytest.mark.timeout(120),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"),
]
HERE = Path(__file__).parent / "event_source"
LONG = steps(slow(*(f"Wort {n} " for n in range(40)), seconds=0.05))


@pytest.mark.parametrize("host", ["shop.example", "other.example"])
def test_it_follows_a_session_over_a_kill_of_the_engine_and_loses_nothing(tmp_path: Path, host: str) -> None:
    with (
        serving_pages(HERE) as pages,
        served(tmp_path, BYTEBREW_CORS_ORIGINS=f"http://shop.example:{pages.port}") as engine,
    ):
        headers = {"Authorization": f"Bearer {engine.token}"}
        chat = f"{engine.url}/api/v1/schemas/{SCHEMA}/chat"
        first = httpx.post(chat, json={"message": steps(["Hello"]), "stream": False}, headers=headers)
        session = first.json()["session_id"]
        with pages.browser(host, tmp_path / "profile", url=engine.url, token=engine.token, session=session) as sent:
            path, found = sent.get(timeout=60)
            if host == "other.example":
                assert (path, [*found]) == ("/end", ["failed"])
                return
            assert path == "/open"
            body = {"message": LONG, "session_id": session}
            with httpx.stream("POST", chat, json=body, headers=headers) as begun:
                assert begun.status_code == 200
            assert sent.get(timeout=60) == ("/middle", {})
            engine.kill()
            engine.start()
            path, found = sent.get(timeout=60)
        stored = engine.events(session)
    assert path == "/end"
    assert "failed" not in found
    assert found["connected"] == 2
    assert found["seen"] == [[str(one["id"]), one["event"], one["data"]] for one in stored]
    assert found["refused"] == [2, 2]  # closed: EventSource does not try again after a 401
