"""A conversation at the terminal: streams the answers, and resumes where a broken connection left off."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx

from bytebrew.sse import Parser, ServerSentEvent


async def turn(client: httpx.AsyncClient, schema: str, message: str, session_id: str | None) -> str:
    """Sends one message and prints the answer as it comes; the session's id."""
    body = {"message": message} | ({"session_id": session_id} if session_id else {})
    last = "0"
    try:
        async with client.stream("POST", f"/api/v1/schemas/{schema}/chat", json=body) as response:
            if response.status_code != 200:
                await response.aread()
                raise SystemExit(response.json()["message"])
            session_id = response.headers["x-session-id"]
            async for event in events(response):
                last = event.id or last
                show(event.event, json.loads(event.data))
            return session_id
    except httpx.TransportError:
        if session_id is None:
            raise
    async with client.stream(
        "GET", f"/api/v1/sessions/{session_id}/events", headers={"Last-Event-ID": last}
    ) as response:
        async for event in events(response):
            show(event.event, json.loads(event.data))
            if event.event in ("done", "error"):
                break
    return session_id


async def events(response: httpx.Response) -> AsyncIterator[ServerSentEvent]:
    """The events of a stream; comments are left out."""
    parser = Parser()
    async for chunk in response.aiter_bytes():
        for event in parser.feed(chunk):
            yield event


def show(kind: str, data: dict[str, Any]) -> None:
    """Prints deltas as they are and says the rest in a line."""
    if kind == "message_delta":
        print(data["content"], end="", flush=True)
    elif kind == "tool_call":
        print(f"\n[{data['tool']} {json.dumps(data['input'])}]")
    elif kind == "error":
        print(f"\n[{data['code']}: {data['message']}]")
    elif kind == "done":
        print()


async def main() -> None:
    """Usage: chat.py URL TOKEN SCHEMA."""
    url, token, schema = sys.argv[1:]
    session_id = None
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=None) as client:
        for line in sys.stdin:
            session_id = await turn(client, schema, line.strip(), session_id)


if __name__ == "__main__":
    asyncio.run(main())
