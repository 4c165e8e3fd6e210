"""A page of the AI SDK after a `kill -9`, where the model then says the same, and where it says something else."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.conversation.test_confirmations import Setup, configure
from tests.plugins.ui_page import API, Page


@pytest.mark.kills
@pytest.mark.slow
@pytest.mark.parametrize("second", ["The sky is", "A pony is"])
async def test_a_page_that_is_loaded_after_a_kill_shows_what_the_model_says_in_the_end(
    tmp_path: Path, second: str
) -> None:
    setup = Setup(tmp_path)
    said = {"tries": ["The sky is", second]}
    steps = [[["look", {"n": 1}]], [said, {"tries": [30.0, 1.0]}, " blue."]]
    page: Page
    async with setup.serving() as (process, client):
        await configure(client)
        page = Page(client)
        page.messages = [{"id": "m1", "role": "user", "parts": [{"type": "text", "text": json.dumps(steps)}]}]
        body = {"id": "chat", "messages": page.messages}
        async with client.stream("POST", API, json=body) as response:
            async for line in response.aiter_lines():
                if "The sky is" in line:
                    break
            process.kill()
    async with setup.serving() as (_, client):
        page.client = client
        early, late = asyncio.create_task(page.resume()), Page(client)
        await asyncio.sleep(0.5)
        await late.resume()
        parts = await early
        assert [one["type"] for one in parts] == ["step-start", "tool-look", "step-start", "text"]
        assert page.text() == late.text() == f"{second} blue."
        shown = (await client.get(f"{API}/chat")).json()["messages"]
        assert shown[-1]["parts"] == parts
    assert setup.ledger.counts()["look 1"] == 1
