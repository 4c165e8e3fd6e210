"""A thread of AG-UI after a `kill -9`, where the model then says the same, and where it says something else."""

from pathlib import Path

import httpx
import pytest

from tests.conversation.test_confirmations import Setup, configure
from tests.plugins.ag_ui_thread import events_of
from tests.plugins.test_ag_ui import URL, Client


async def cut(client: Client, word: bytes) -> None:
    """Takes the frames of a run up to one with a word."""
    client.runs += 1
    body = {"threadId": client.thread_id, "runId": f"run-{client.runs}", "messages": client.thread.messages}
    taken = b""
    async with client.http.stream("POST", URL, json=body) as response:
        async for chunk in response.aiter_bytes():
            taken += chunk
            if word in taken:
                break
    assert word in taken
    client.thread.take(taken)


async def again(http: httpx.AsyncClient, url: str) -> bytes:
    answer = await http.get(url)
    assert answer.status_code == 200, answer.text
    return answer.content


@pytest.mark.kills
@pytest.mark.slow
@pytest.mark.parametrize("second", ["The sky is", "A pony is"])
@pytest.mark.parametrize("by", ["url", "run"])
async def test_a_thread_has_what_the_model_says_in_the_end(tmp_path: Path, second: str, by: str) -> None:
    setup = Setup(tmp_path)
    said = {"tries": ["The sky is", second]}
    steps = [["So. ", ["look", {"n": 2}]], [said, {"tries": [30.0, 1.0]}, " blue."]]
    async with setup.serving() as (process, http):
        await configure(http)
        assert (await http.patch("/api/v1/schemas/test", json={"view": "full"})).status_code == 200
        client = Client(http)
        client.add(role="system", content="Be brief")
        await client.run(["Hi ", ["look", {"n": 1}]], ["there"])
        setup.ledger.clear()  # by which the model counts its tries
        client.ask(*steps)
        await cut(client, b"The sky is")
        process.kill()
    async with setup.serving() as (_, http):
        client.http = http
        url = f"{URL}/threads/thread-1/runs/run-2"
        if by == "url":
            client.thread.take(await again(http, f"{url}?after={client.thread.cursor}"))
        else:
            await client.run()
        assert [(one["role"], one["content"]) for one in client.thread.shown()[4:]] == [
            ("assistant", "there"),
            ("user", client.thread.messages[5]["content"]),
            ("assistant", "So. "),
            ("tool", "saw 2"),
            ("assistant", f"{second} blue."),
        ]
        assert client.thread.shown()[:2] == client.thread.messages[:2]
        assert client.thread.last["outcome"] == {"type": "success"}
        whole = await again(http, url)
        assert whole == await again(http, url)
        snapshots = [one for one in events_of(whole) if one["type"] == "MESSAGES_SNAPSHOT"]
        assert bool(snapshots) == (second == "A pony is")
        await client.run(["goes on"])
        assert client.said()[-1] == "goes on"
    assert setup.ledger.counts()["look 2"] == 1
