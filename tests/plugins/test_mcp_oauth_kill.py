"""A kill of the engine in the middle of a refresh: the tokens are good, or the user is asked, and nothing hangs."""

import asyncio
from pathlib import Path

import anyio
import httpx
import pytest

from bytebrew.testing import ADMIN
from tests.mcp_users import Engine
from tests.oauth_double import Authority
from tests.plugins.test_mcp_oauth import connect, grants, own

MESSAGES = "/api/v1/sessions/{}/messages"


@pytest.mark.parametrize("rotates", [False, True])
async def test_a_kill_during_a_refresh_leaves_good_tokens_or_a_question(rotates: bool, tmp_path: Path) -> None:
    async with Authority({"rotates": rotates}) as web:
        engine = await asyncio.to_thread(Engine.begin, tmp_path)
        try:
            ann, _ = await asyncio.to_thread(engine.configure, web.url)
            headers = {"Authorization": f"Bearer {ann}"}
            async with httpx.AsyncClient(base_url=engine.process.url, headers=headers, timeout=30) as http:
                assert (await connect(http, web, "Ann", name="peer")).status_code == 200
            web.access.clear()
            web.tokens_may_go.clear()
            asking = asyncio.create_task(asyncio.to_thread(engine.ask_in_vain, ann, "structured"))
            with anyio.fail_after(20):
                while not grants(web, "refresh_token"):
                    await anyio.sleep(0.01)
            web.issue_unheard()
            engine = await asyncio.to_thread(engine.again)
            await asking
            web.tokens_may_go.set()
            answer = await asyncio.to_thread(engine.ask, ann, "structured")
            async with httpx.AsyncClient(base_url=engine.process.url, headers=headers, timeout=30) as http:
                state = (await own(http, "peer"))["state"]
                if rotates:
                    assert ("POST /api/v1/connections/peer" in answer, state) == (True, "expired")
                    assert (await connect(http, web, "Ann", name="peer")).status_code == 200
                    answer = await asyncio.to_thread(engine.ask, ann, "structured")
                else:
                    assert state == "connected"
            assert '"sum":3' in answer
        finally:
            engine.process.kill()


async def test_an_admins_turn_in_a_users_session_has_no_account_of_that_user_after_a_kill(tmp_path: Path) -> None:
    hold, held = tmp_path / "plugins" / "hold", tmp_path / "plugins" / "held"
    async with Authority() as web:
        engine = await asyncio.to_thread(Engine.begin, tmp_path)
        try:
            ann, _ = await asyncio.to_thread(engine.configure, web.url)
            chat = {"message": "Hello", "stream": False}
            async with httpx.AsyncClient(base_url=engine.process.url, timeout=30) as http:
                http.headers["Authorization"] = f"Bearer {ann}"
                assert (await connect(http, web, "Ann", name="peer")).status_code == 200
                begun = (await http.post("/api/v1/schemas/caller/chat", json=chat)).json()
                hold.touch()
                http.headers["Authorization"] = f"Bearer {ADMIN}"
                chat |= {"message": "structured", "session_id": begun["session_id"]}
                asking = asyncio.create_task(http.post("/api/v1/schemas/caller/chat", json=chat))
                with anyio.fail_after(20):
                    while not held.exists():
                        await anyio.sleep(0.01)
                engine = await asyncio.to_thread(engine.again)
                with pytest.raises(httpx.TransportError):
                    await asking
            hold.unlink()
            async with httpx.AsyncClient(base_url=engine.process.url, timeout=30) as http:
                http.headers["Authorization"] = f"Bearer {ann}"
                with anyio.fail_after(20):
                    while len(messages := (await http.get(MESSAGES.format(begun["session_id"]))).json()) < 6:
                        await anyio.sleep(0.05)
            assert "POST /api/v1/connections/peer" in messages[-1]["content"]
            assert web.users() == []
        finally:
            engine.process.kill()
