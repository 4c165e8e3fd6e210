"""A conversation at the terminal, with httpx alone: streams the answers, and resumes where a connection broke off."""

import asyncio
import json
import sys
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx


async def turn(
    client: httpx.AsyncClient, schema: str, message: str, session_id: str | None, last: str
) -> tuple[str | None, str]:
    """Sends one message and prints the answer as it comes; the session's id and the id of its last event."""
    chat = f"/api/v1/schemas/{schema}/chat"
    body = {"message": message} | ({"session_id": session_id} if session_id else {})
    key = str(uuid.uuid4())  # a message that may not have arrived is sent again and counts once
    begun = False
    while True:
        if begun:
            url, resume = f"/api/v1/sessions/{session_id}/events", {"Last-Event-ID": last}
            request = client.build_request("GET", url, headers=resume)
        else:
            request = client.build_request("POST", chat, json=body, headers={"Idempotency-Key": key})
        try:
            response = await client.send(request, stream=True)
            if response.status_code != 200:
                await response.aread()
                raise SystemExit(response.json()["message"])
            begun, session_id = True, response.headers["x-session-id"]
            async for last, event, data in events(response):
                show(event, data)
                if event in ("done", "error"):
                    await response.aclose()
                    return session_id, last
        except httpx.TransportError as error:
            print(f"\n[{type(error).__name__}; once more]", file=sys.stderr)
        await asyncio.sleep(1)


async def events(response: httpx.Response) -> AsyncIterator[tuple[str, str, dict[str, Any]]]:
    """Id, type and data of each event of a stream; comments are left out."""
    rest = b""
    async for chunk in response.aiter_bytes():
        *frames, rest = (rest + chunk).split(b"\n\n")
        for frame in frames:
            if not frame.startswith(b":"):
                fields = dict(line.split(b": ", 1) for line in frame.split(b"\n"))
                yield fields.get(b"id", b"0").decode(), fields[b"event"].decode(), json.loads(fields[b"data"])


def show(event: str, data: dict[str, Any]) -> None:
    """Prints deltas as they are and says the rest in a line."""
    if event == "message_delta":
        print(data["content"], end="", flush=True)
    elif event == "tool_call":
        print(f"\n[{data['tool']} {json.dumps(data['input'])}]")
    elif event == "error":
        print(f"\n[{data['code']}: {data['message']}]")
    elif event == "done":
        print()


async def main() -> None:
    """Usage: chat.py URL TOKEN SCHEMA, and a message on each line of standard input."""
    if len(sys.argv) != 4:
        raise SystemExit(main.__doc__)
    url, token, schema = sys.argv[1:]
    session_id, last = None, "0"
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        for line in sys.stdin:
            if message := line.strip():
                session_id, last = await turn(client, schema, message, session_id, last)


if __name__ == "__main__":
    asyncio.run(main())
