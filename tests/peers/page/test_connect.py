"""A person connects to an MCP server with OAuth from the chat that needs it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import pytest

from tests.oauth_double import Authority
from tests.peers.page.test_chat import opened, say
from tests.peers.served import Served, served, steps

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]


@contextmanager
def running(web: Authority) -> Iterator[Authority]:
    """A double in a thread of its own: the browser's test blocks the loop of the test."""
    loop, ready = asyncio.new_event_loop(), asyncio.Event()
    stop = asyncio.Event()

    async def run() -> None:
        async with web:
            ready.set()
            await stop.wait()

    thread = Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    asyncio.run_coroutine_threadsafe(ready.wait(), loop).result(10)
    try:
        yield web
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def web() -> Iterator[Authority]:
    with running(Authority({"signs_in": "Ann"})) as authority:
        yield authority


@pytest.fixture(scope="module")
def engine(web: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("engine")) as running:
        server = {"name": "crm", "url": web.url, "auth_type": "oauth2"}
        running.admin.post("mcp-servers", json=server).raise_for_status()
        running.admin.patch("agents/talk", json={"mcp_servers": ["crm"]}).raise_for_status()
        yield running


def test_a_chat_that_needs_it_has_a_button_that_connects(page: Any, engine: Served, web: Authority) -> None:
    opened(page)
    say(page, steps(["Hello"]))
    with page.context.expect_page() as opening:
        page.get_by_role("button", name="Connect crm").click()
    answer = opening.value
    answer.get_by_role("heading", name="Connected").wait_for()
    assert engine.admin.get("connections").json()[0]["state"] == "connected"
    assert web.clients


def test_a_server_with_oauth_is_added_and_edited(page: Any, engine: Served, web: Authority) -> None:
    page.goto("/tools/mcp")
    page.get_by_role("textbox", name="Name", exact=True).fill("spare")
    page.get_by_role("textbox", name="Address").fill(web.url)
    page.get_by_label("Signs in").select_option("oauth2")
    page.get_by_label("Scopes").fill("read\nwrite")
    page.get_by_role("button", name="Add and connect").click()
    page.wait_for_url("**/tools/mcp/spare")
    with page.context.expect_page() as opening:
        page.get_by_role("button", name="Connect spare").click()
    opening.value.get_by_role("heading", name="Connected").wait_for()
    page.get_by_text("as they were approved").wait_for()
    page.get_by_role("link", name="Edit").click()
    page.get_by_label("Client", exact=True).fill("mine")
    page.get_by_label("Authorization server of the client").fill(web.origin)
    page.get_by_role("textbox", name="Client secret").fill("a-secret")
    page.get_by_role("button", name="Save").click()
    page.wait_for_url("**/tools/mcp/spare")
    stored = engine.admin.get("mcp-servers/spare").json()
    assert (stored["auth_type"], stored["auth_client_id"], stored["has_auth_key"]) == ("oauth2", "mine", True)
    assert (stored["auth_issuer"], stored["auth_scopes"]) == (web.origin, ["read", "write"])
