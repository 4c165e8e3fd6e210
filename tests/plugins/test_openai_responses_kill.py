"""A background response over a `kill -9`, where the model then says the same, and where it says something else."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conversation.test_confirmations import Setup, configure

AT = "/v1/responses"


async def rest_of(client: httpx.AsyncClient, response_id: str, after: int) -> str:
    query = {"stream": "true", "starting_after": str(after)}
    return (await client.get(f"{AT}/{response_id}", params=query)).text.removeprefix(": ok\n\n")


@pytest.mark.kills
@pytest.mark.slow
@pytest.mark.parametrize("second", ["The sky is", "A pony is"])
async def test_the_stream_goes_on_behind_the_last_event_and_is_the_same_when_it_is_read_again(
    tmp_path: Path, second: str
) -> None:
    setup = Setup(tmp_path)
    steps = [[["look", {"n": 1}]], [{"tries": ["The sky is", second]}, {"tries": [30.0, 1.0]}, " blue."]]
    body = {"model": "test", "input": json.dumps(steps), "background": True, "stream": True}
    seen, before = "", -1
    async with setup.serving() as (process, client):
        await configure(client)
        async with client.stream("POST", AT, json=body) as response:
            async for line in response.aiter_lines():
                seen += f"{line}\n"
                if line.startswith("data: "):
                    before = json.loads(line[6:])["sequence_number"]
                if "The sky is" in line:
                    break
            process.kill()
    seen = f"{seen.removeprefix(': ok').lstrip()}\n"
    first: Any = json.loads(seen.split("data: ")[1].partition("\n\n")[0])["response"]
    async with setup.serving() as (_, client):
        whole = seen + await rest_of(client, first["id"], before)
        assert await rest_of(client, first["id"], -1) == whole
        final = (await client.get(f"{AT}/{first['id']}")).json()
        texts = [item["content"][0]["text"] for item in final["output"] if item["type"] == "message"]
        assert (final["status"], texts) == ("completed", [f"{second} blue."])
        assert ('"status":"incomplete"' in whole) is (second != "The sky is")
    assert setup.ledger.counts()["look 1"] == 1
