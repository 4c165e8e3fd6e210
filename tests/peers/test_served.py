"""The engine that clients of faces meet goes on after a `kill -9` as if there had been none."""

from pathlib import Path

import httpx
import pytest

from tests.peers.served import SCHEMA, Served, served, slow, steps

pytestmark = [pytest.mark.peers, pytest.mark.timeout(60)]

ENDS = ("event: done", "event: error")


def talk(engine: Served, message: str, kill_after: int = 0) -> str:
    """One turn of the engine's own API to its end, in an engine that is killed after so many events. The session."""
    headers = {"Authorization": f"Bearer {engine.token}"}
    url = f"{engine.url}/api/v1/schemas/{SCHEMA}/chat"
    with httpx.stream("POST", url, json={"message": message}, headers=headers, timeout=20) as response:
        session_id = response.headers["x-session-id"]
        for n, line in enumerate(line for line in response.iter_lines() if line.startswith("event: ")):
            if kill_after and n == kill_after:
                engine.kill()
                engine.start()
                break
            if line in ENDS:
                return session_id
            if line == "event: confirmation":
                engine.approve(session_id)
    with httpx.stream("GET", f"{engine.url}/api/v1/sessions/{session_id}/events", headers=headers, timeout=20) as rest:
        for line in rest.iter_lines():
            if line in ENDS:
                return session_id
    raise AssertionError("the stream has no end")


def test_a_turn_that_was_killed_in_its_middle_ends_as_one_that_was_not(tmp_path: Path) -> None:
    message = steps([*slow("one ", "two ", "three ", "four "), ["weather", {"city": "Oslo"}]], ["So: ", None])
    with served(tmp_path) as engine:
        calm, killed = talk(engine, message), talk(engine, message, kill_after=3)
        assert engine.messages(killed) == engine.messages(calm)
        names = [one["event"] for one in engine.events(killed)]
        assert names == [one["event"] for one in engine.events(calm)]
        assert engine.messages(calm)[-1][1] == "So: Sunny in Oslo"


def test_a_person_approves_what_asks_first(tmp_path: Path) -> None:
    with served(tmp_path) as engine:
        session_id = talk(engine, steps([["pay", {"amount": 3}]], [None]))
        assert engine.messages(session_id)[-1][1] == "paid 3"
