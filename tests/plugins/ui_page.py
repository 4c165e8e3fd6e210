"""A page with `useChat`, as far as requests and parts go: strict where the npm package `ai` is."""

import json
from typing import Any

import httpx

API = "/ai-sdk/test/chat"


def chunks(response: httpx.Response) -> list[dict[str, Any]]:
    """The chunks of a stream, which ends as the protocol wants."""
    assert response.status_code == 200, response.text
    assert response.headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [one[6:] for one in response.text.split("\n\n") if one.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(one) for one in lines[:-1]]


def kinds(sent: list[dict[str, Any]]) -> list[str]:
    """The types of chunks."""
    return [one["type"] for one in sent]


class Page:
    """The messages of a chat, and what the page runs."""

    def __init__(self, client: httpx.AsyncClient, chat_id: str = "chat", **body: Any) -> None:
        self.client, self.id, self.body = client, chat_id, body
        self.messages: list[dict[str, Any]] = []
        self.sent: list[dict[str, Any]] = []
        self._ids = 0

    async def post(self, **body: Any) -> httpx.Response:
        """A request of the transport."""
        whole = {"id": self.id, "messages": self.messages, "trigger": "submit-message", **self.body, **body}
        return await self.client.post(API, json=whole)

    async def send(self, *steps: Any, parts: Any = None, **body: Any) -> list[dict[str, Any]]:
        """Sends a message of the user; the parts of the answer."""
        self._ids += 1
        own = parts or [{"type": "text", "text": json.dumps(steps)}]
        self.messages.append({"id": f"{self.id}-m{self._ids}", "role": "user", "parts": own})
        return self.take(await self.post(**body))

    async def edit(self, message_id: str, *steps: Any, **body: Any) -> list[dict[str, Any]]:
        """Sends another message in place of one."""
        at = [one["id"] for one in self.messages].index(message_id)
        self.messages[at:] = [{**self.messages[at], "parts": [{"type": "text", "text": json.dumps(steps)}]}]
        return self.take(await self.post(messageId=message_id, **body))

    async def regenerate(self, message_id: str | None = None, **body: Any) -> list[dict[str, Any]]:
        """Has an answer, or the last one, made anew."""
        ids = [one["id"] for one in self.messages]
        at = len(ids) - 1 if message_id is None else ids.index(message_id)
        self.messages[at if self.messages[at]["role"] == "assistant" else at + 1 :] = []
        return self.take(await self.post(trigger="regenerate-message", messageId=message_id, **body))

    async def go_on(self, **body: Any) -> list[dict[str, Any]]:
        """Sends what was answered in the last message."""
        return self.take(await self.post(messageId=self.messages[-1]["id"], **body))

    async def resume(self) -> list[dict[str, Any]]:
        """The GET of a page that was loaded again."""
        return self.take(await self.client.get(f"{API}/{self.id}/stream"), replay=True)

    def part(self, kind: str) -> dict[str, Any]:
        """The only part of a type in the last message."""
        [found] = [one for one in self.messages[-1]["parts"] if one["type"] == kind]
        return found  # type: ignore[no-any-return]

    def text(self) -> str:
        """The text of the last message."""
        return "".join(one["text"] for one in self.messages[-1]["parts"] if one["type"] == "text")

    def take(self, response: httpx.Response, *, replay: bool = False) -> list[dict[str, Any]]:
        """Puts a stream into the messages; the parts of its message."""
        self.sent = chunks(response)
        assert self.sent[0]["type"] == "start"
        message_id = self.sent[0]["messageId"]
        if self.messages and self.messages[-1]["role"] == "assistant" and not replay:
            assert self.messages[-1]["id"] == message_id
        else:
            self.messages = [one for one in self.messages if one["id"] != message_id]
            self.messages.append({"id": message_id, "role": "assistant", "parts": []})
        parts = self.messages[-1]["parts"]
        open_parts: dict[str, dict[str, Any]] = {}
        for chunk in self.sent:
            if "messageMetadata" in chunk:
                self.messages[-1].setdefault("metadata", {}).update(chunk["messageMetadata"])
        for chunk in self.sent[1:]:
            _take(parts, open_parts, chunk)
        assert not open_parts, "a part is not ended"
        return parts  # type: ignore[no-any-return]


def _take(parts: list[dict[str, Any]], open_parts: dict[str, dict[str, Any]], chunk: dict[str, Any]) -> None:
    kind = chunk["type"]
    calls = {one["toolCallId"]: one for one in parts if "toolCallId" in one}
    if kind == "start-step":
        parts.append({"type": "step-start"})
    elif kind == "finish-step":
        assert not open_parts
    elif kind in ("text-start", "reasoning-start"):
        open_parts[chunk["id"]] = {"type": kind.removesuffix("-start"), "text": "", "state": "done"}
        parts.append(open_parts[chunk["id"]])
    elif kind in ("text-delta", "reasoning-delta"):
        open_parts[chunk["id"]]["text"] += chunk["delta"]
    elif kind in ("text-end", "reasoning-end"):
        del open_parts[chunk["id"]]
    elif kind == "tool-input-available":
        if chunk["toolCallId"] not in calls:
            calls[chunk["toolCallId"]] = {"type": f"tool-{chunk['toolName']}", "toolCallId": chunk["toolCallId"]}
            parts.append(calls[chunk["toolCallId"]])
        own = {"state": "input-available", "input": chunk["input"], "providerExecuted": chunk["providerExecuted"]}
        calls[chunk["toolCallId"]].update(own)
    elif kind == "tool-approval-request":
        calls[chunk["toolCallId"]].update(state="approval-requested", approval={"id": chunk["approvalId"]})
    elif kind == "tool-output-available":
        calls[chunk["toolCallId"]].update(state="output-available", output=chunk["output"])
    elif kind == "tool-output-error":
        calls[chunk["toolCallId"]].update(state="output-error", errorText=chunk["errorText"])
    elif kind == "tool-output-denied":
        calls[chunk["toolCallId"]]["state"] = "output-denied"
    elif kind.startswith("data-"):
        if not chunk.get("transient") and chunk not in parts:
            parts.append(chunk)
    else:
        assert kind in ("finish", "abort", "error"), kind
