"""A thread of AG-UI as its clients hold it: checks each event, and folds it into messages and a state."""

import json
from typing import Any

from ag_ui.core import Event as AgUiEvent
from ag_ui_validate import create_validator
from pydantic import BaseModel, TypeAdapter

EVENT: TypeAdapter[Any] = TypeAdapter(AgUiEvent)


def events_of(body: bytes) -> list[dict[str, Any]]:
    """The events of a stream, each of which the official types take as it is."""
    found = [json.loads(part[6:]) for part in body.split(b"\n\n") if part.startswith(b"data: ")]
    for event in found:
        check_fields(EVENT.validate_python(event))
    return found


def check_fields(value: Any) -> None:
    """Fails for a field that the specification does not have."""
    if isinstance(value, BaseModel):
        assert not value.model_extra, (type(value).__name__, value.model_extra)
        for name in type(value).model_fields:
            check_fields(getattr(value, name))
    elif isinstance(value, list):
        for one in value:
            check_fields(one)


class Thread:
    """Messages and state, by the rules of `@ag-ui/client` 1.0 for applying events."""

    def __init__(self, *messages: dict[str, Any], state: Any = None) -> None:
        self.messages: list[dict[str, Any]] = [json.loads(json.dumps(one)) for one in messages]
        self.state: Any = state if state is not None else {}
        self.interrupts: list[dict[str, Any]] = []
        self.last: dict[str, Any] = {}
        self.cursor = ""
        self._validator = create_validator()

    def take(self, body: bytes) -> list[dict[str, Any]]:
        """Takes a stream, or a part of one."""
        found = events_of(body)
        for event in found:
            self._validator.feed(json.dumps(event))
            self._apply(event)
        return found

    def problems(self) -> list[str]:
        """What the validator has found, but for results of calls that an earlier run of the thread has begun.

        It knows one run at a time, and the specification has the result of an approved call in the run behind the
        interrupt, without the call again (docs.ag-ui.com/concepts/interrupts, "Tool-bound interrupts").
        """
        self._validator.finalize()
        calls = {call["id"] for message in self.messages for call in message.get("toolCalls", ())}
        ours = [f"'{call}'" for call in calls]
        report = self._validator.report()
        found = [f"{one.rule} {one.message}" for one in report.diagnostics if one.severity != "info"]
        return [one for one in found if not (one.startswith("AGUI207") and any(call in one for call in ours))]

    def pending(self) -> list[str]:
        """The calls without a result, in their order."""
        results = {one["toolCallId"] for one in self.messages if one["role"] == "tool"}
        calls = [call["id"] for one in self.messages for call in one.get("toolCalls", ())]
        return [call for call in calls if call not in results]

    def message(self, id: str) -> dict[str, Any]:
        return next(one for one in self.messages if one["id"] == id)

    def _grow(self, id: str, role: str) -> dict[str, Any]:
        if not any(one["id"] == id for one in self.messages):
            self.messages.append({"id": id, "role": role, "content": ""})
        return self.message(id)

    def _apply(self, event: dict[str, Any]) -> None:
        self.last, kind, metadata = event, event["type"], event.get("metadata", {})
        self.cursor = metadata.get("bytebrew", {}).get("cursor", self.cursor)
        target: dict[str, Any] = {}
        if kind in ("TEXT_MESSAGE_START", "REASONING_MESSAGE_START"):
            target = self._grow(event["messageId"], event["role"])
        elif kind in ("TEXT_MESSAGE_CONTENT", "REASONING_MESSAGE_CONTENT"):
            target = self.message(event["messageId"])
            target["content"] += event["delta"]
        elif kind in ("TEXT_MESSAGE_END", "REASONING_MESSAGE_END"):
            target = self.message(event["messageId"])
        elif kind.startswith("TOOL_CALL_") and kind != "TOOL_CALL_RESULT":
            target = self._call(event)
        elif kind == "TOOL_CALL_RESULT":
            target = {"id": event["messageId"], "role": "tool", "toolCallId": event["toolCallId"]}
            target["content"] = event["content"]
            self._insert(target)
        elif kind == "STATE_DELTA":
            for change in event["delta"]:
                assert change["op"] == "add"
                if change["path"]:
                    self.state[change["path"][1:].replace("~1", "/").replace("~0", "~")] = change["value"]
                else:
                    self.state = change["value"]
        elif kind == "MESSAGES_SNAPSHOT":
            self._snapshot(event["messages"])
        elif kind == "ACTIVITY_SNAPSHOT":
            about = {"role": "activity", "activityType": event["activityType"], "content": event["content"]}
            self.messages.append({"id": event["messageId"], **about})
        elif kind == "RUN_FINISHED":
            self.interrupts = event["outcome"].get("interrupts", [])
        if target:
            target["metadata"] = target.get("metadata", {}) | metadata

    def _call(self, event: dict[str, Any]) -> dict[str, Any]:
        calls = [one for message in self.messages for one in message.get("toolCalls", ())]
        known: dict[str, Any] | None = next((one for one in calls if one["id"] == event["toolCallId"]), None)
        if known is None:
            above = self._grow(event["parentMessageId"], "assistant")
            known = {"id": event["toolCallId"], "type": "function"}
            known["function"] = {"name": event["toolCallName"], "arguments": ""}
            above.setdefault("toolCalls", []).append(known)
        known["function"]["arguments"] += event.get("delta", "")
        return known

    def _insert(self, result: dict[str, Any]) -> None:
        owners = [
            n
            for n, one in enumerate(self.messages)
            if any(call["id"] == result["toolCallId"] for call in one.get("toolCalls", ()))
        ]
        at = owners[0] + 1 if owners else len(self.messages)
        while owners and at < len(self.messages) and self.messages[at]["role"] == "tool":
            at += 1
        self.messages.insert(at, result)

    def _snapshot(self, messages: list[dict[str, Any]]) -> None:
        new = {one["id"]: one for one in messages}
        with_reasoning = any(one["role"] == "reasoning" for one in messages)
        stay = {"activity"} if with_reasoning else {"activity", "reasoning"}
        kept = [new.get(one["id"], one) for one in self.messages if one["id"] in new or one["role"] in stay]
        known = {one["id"] for one in kept}
        self.messages = [*kept, *(one for one in messages if one["id"] not in known)]

    def shown(self) -> list[Any]:
        """The messages, without what metadata they have."""
        found = [{name: one[name] for name in one if name != "metadata"} for one in self.messages]
        for one in found:
            if "toolCalls" in one:
                one["toolCalls"] = [{k: v for k, v in call.items() if k != "metadata"} for call in one["toolCalls"]]
        return [one for one in found if one.get("content") or "toolCalls" in one]
