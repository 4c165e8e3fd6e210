"""A conversation at the terminal, with httpx alone: questions, forms, errors and broken connections included."""

import asyncio
import json
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx

WAITS = 5
"""Retries of a message that the engine refuses as overloaded or rate-limited."""


class Refused(Exception):
    """An answer in the engine's one shape of errors."""

    def __init__(self, status: int, body: dict[str, Any], wait: float | None) -> None:
        faults = "; ".join(f"{one['path']}: {one['message']}" for one in body.get("details", ()))
        super().__init__(f"{body['error']}: {body['message']}{f' ({faults})' if faults else ''}")
        self.status, self.code, self.wait = status, body["error"], wait


class Conversation:
    """A session with a schema; `last` is the id of the last event that was seen."""

    def __init__(self, client: httpx.AsyncClient, schema: str) -> None:
        self.client, self.schema = client, schema
        self.session_id, self.last = "", "0"
        self.form: dict[str, Any] | None = None

    async def say(self, message: str | dict[str, Any]) -> None:
        """Sends a message and shows its turn to the end; it counts once, however often it has to be sent."""
        body = {"message": message} | ({"session_id": self.session_id} if self.session_id else {})
        chat, key = f"/api/v1/schemas/{self.schema}/chat", {"Idempotency-Key": str(uuid.uuid4())}
        turn, waits, self.form = "", 0, None
        while True:
            try:
                if turn:
                    url, seen = f"/api/v1/sessions/{self.session_id}/events", {"Last-Event-ID": self.last}
                    request = self.client.build_request("GET", url, headers=seen)
                else:
                    request = self.client.build_request("POST", chat, json=body, headers=key)
                response = await self.client.send(request, stream=True)
                try:
                    await _check(response)
                    self.session_id, turn = response.headers["x-session-id"], turn or response.headers["x-turn-id"]
                    async for event, data in self._events(response):
                        await self._show(event, data)
                        if event in ("done", "error") and data["turn_id"] == turn:  # others may talk here too
                            return
                finally:
                    await response.aclose()
            except Refused as error:
                if error.code == "history_changed":  # the engine was restored from a backup: read from the start
                    self.last = "0"
                elif error.wait is None or (waits := waits + 1) > WAITS:
                    raise
                else:
                    note(f"{error}; once more in {error.wait:g} s")
                    await asyncio.sleep(error.wait)
            except httpx.TransportError as error:
                note(f"{type(error).__name__}; once more")
                await asyncio.sleep(1)

    async def _events(self, response: httpx.Response) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Type and data of each event; comments are left out, and what has no id is no part of the history.

        Raises Refused for an error that is none: the stream has failed and not its turn, such as when the engine stops.
        """
        rest = b""
        async for chunk in response.aiter_bytes():
            *frames, rest = (rest + chunk).split(b"\n\n")
            for frame in frames:
                if not frame.startswith(b":"):
                    fields = dict(line.split(b": ", 1) for line in frame.split(b"\n"))
                    self.last = fields.get(b"id", self.last.encode()).decode()
                    event, data = fields[b"event"].decode(), json.loads(fields[b"data"])
                    if event == "error" and b"id" not in fields:
                        raise Refused(response.status_code, {"error": data["code"], "message": data["message"]}, 1)
                    yield event, data

    async def _show(self, event: str, data: dict[str, Any]) -> None:
        """Prints deltas as they come and other events on a line each; ignores unknown ones."""
        if event == "message_delta":
            print(data["content"], end="", flush=True)
        elif event == "message_restart":  # after a restart the model gave another answer
            print(f"\n[again]\n{data['content']}", end="", flush=True)
        elif event == "tool_call":
            print(f"\n[{data['tool']} {json.dumps(data['input'])}]")
        elif event == "tool_result" and data["has_error"]:
            print(f"[{data['tool']} failed: {data['output']}]")
        elif event == "queued":
            print("[waits for a question of an earlier message]" if data["needs_input"] else "[waits for its turn]")
        elif event == "confirmation":
            await self._answer(data)
        elif event == "structured_output":
            self._show_block(data)
        elif event == "error":
            print(f"\n[{data['code']}: {data['message']}]")
        elif event == "done":
            ends = {"cancelled": "cancelled", "max_tokens": "the model came to its token limit"}
            why = ends.get(data["status"]) or ends.get(data.get("finish_reason", ""))
            print(f"\n[{why}]" if why else "")

    async def _answer(self, confirmation: dict[str, Any]) -> None:
        """Asks the person about a call, whose arguments they may edit; anything but a yes is a no."""
        print(f"\n[{confirmation['tool']}, {confirmation['risk']}: {json.dumps(confirmation['input'])}]")
        unknown = confirmation["kind"] == "unknown_outcome"
        answer = await prompt(
            "The engine stopped in the middle of this call: retry, mark_done or fail?"
            if unknown
            else "May it run? yes, no, or other arguments as JSON"
        )
        body: dict[str, Any] = {"confirmation_id": confirmation["confirmation_id"], "answers": [answer or "no"]}
        if answer.startswith("{"):
            with suppress(ValueError):
                body |= {"input": json.loads(answer), "answers": ["approve"]}
        url, key = f"/api/v1/sessions/{confirmation['session_id']}/respond", {"Idempotency-Key": str(uuid.uuid4())}
        while True:  # the stream sends the question once
            try:
                await _check(await self.client.post(url, json=body, headers=key))
                return
            except Refused as error:
                note(str(error))
                if error.wait is None:  # answered by somebody else, or over: the stream has the outcome
                    return
                await asyncio.sleep(error.wait)
            except httpx.TransportError as error:
                note(f"{type(error).__name__}; once more")
                await asyncio.sleep(1)

    def _show_block(self, block: dict[str, Any]) -> None:
        """Prints a table or a note; keeps a form until the turn has ended, for the next message to answer."""
        for line in (block.get("title"), block.get("description")):
            if line:
                print(f"\n{line}", end="")
        print()
        for row in block.get("rows", ()):
            print(f"  {row['label']}: {row['value']}")
        if block["output_type"] == "form":
            self.form = block

    async def fill_in(self) -> dict[str, Any]:
        """The answers to the form, by the ids of its questions; an empty line takes the default."""
        answers: dict[str, Any] = {}
        for one in (self.form or {})["questions"]:
            values = [option["value"] for option in one.get("options", ())]
            hint = f" ({', '.join(values)})" if values else ""
            default = f" [{one['default']}]" if one.get("default") else ""
            answer = await prompt(f"{one['label']}{hint}{default}:")
            if answer:
                several = one["type"] == "multiselect"
                answers[one["id"]] = [part.strip() for part in answer.split(",")] if several else answer
        return {"form": answers}


async def _check(response: httpx.Response) -> None:
    if response.is_error:
        await response.aread()
        wait = response.headers.get("retry-after", "")
        raise Refused(response.status_code, response.json(), float(wait) if wait.isdecimal() else None)


async def prompt(question: str) -> str:
    """Reads a line of standard input without blocking the events; nothing at its end."""
    print(question, end=" ", flush=True)
    line: str = await asyncio.to_thread(sys.stdin.readline)
    return line.strip()


def note(text: str) -> None:
    """Prints a line that is not part of the conversation."""
    print(f"\n[{text}]", file=sys.stderr)


async def main() -> None:
    """Usage: chat.py URL TOKEN SCHEMA, and a message on each line of standard input."""
    if len(sys.argv) != 4:
        raise SystemExit(main.__doc__)
    url, token, schema = sys.argv[1:]
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        conversation = Conversation(client, schema)
        while line := await asyncio.to_thread(sys.stdin.readline):
            if not (message := line.strip()):
                continue
            try:
                await conversation.say(message)
                while conversation.form is not None:
                    await conversation.say(await conversation.fill_in())
            except Refused as error:
                note(str(error))
                if error.status in (401, 403, 404):
                    raise SystemExit(1) from error


if __name__ == "__main__":
    asyncio.run(main())
