# mypy: ignore-errors
"""OpenAI's own client, in an environment of its own: each act prints what the client made of the engine's answers."""

import json
import sys
import time
from typing import Any

from openai import APIError, BadRequestError, NotFoundError, OpenAI
from openresponses_types import types
from pydantic import BaseModel

MODEL = "talk"
WHERE = {
    "type": "function",
    "name": "where",
    "description": "The place",
    "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
}
PNG = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)


def show(**values: Any) -> None:
    """One line of what there is."""
    print(json.dumps(values), flush=True)


def steps(*each: Any) -> str:
    """The message that makes the model do these steps."""
    return json.dumps(each)


def acts(client: OpenAI) -> None:
    """Everything that a response can do, once."""
    one = client.responses.create(model=MODEL, input=steps(["Hel", "lo"]), metadata={"a": "b"})
    show(text=one.output_text, status=one.status, metadata=one.metadata, total=one.usage.total_tokens)
    show(again=client.responses.retrieve(one.id) == one)
    two = client.responses.create(model=MODEL, input=steps(["more"]), previous_response_id=one.id)
    show(text=two.output_text, previous=two.previous_response_id == one.id)
    items = list(client.responses.input_items.list(two.id, limit=1, include=["message.input_image.image_url"]))
    show(items=[item.content[0].text for item in items])

    with client.responses.stream(model=MODEL, input=steps([{"think": "hm"}, "a", "b"])) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    show(kinds=kinds, text=final.output_text, reasoning=final.output[0].summary[0].text)

    asks = client.responses.create(model=MODEL, input=steps([["where", {"n": 1}]], ["at ", None]), tools=[WHERE])
    [call] = asks.output
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "home"}
    told = client.responses.create(model=MODEL, previous_response_id=asks.id, input=[result], tools=[WHERE])
    show(call=call.name, arguments=json.loads(call.arguments), text=told.output_text)

    history: list[Any] = [{"role": "user", "content": steps([["where", {"n": 2}]], ["at ", None])}]
    asks = client.responses.create(model=MODEL, input=history, tools=[WHERE])
    history += asks.output
    history.append({"type": "function_call_output", "call_id": asks.output[0].call_id, "output": "sea"})
    show(text=client.responses.create(model=MODEL, input=history, tools=[WHERE]).output_text)

    class Number(BaseModel):
        n: int

    parsed = client.responses.parse(model=MODEL, input=steps(['{"n": 4}']), text_format=Number)
    show(parsed=parsed.output_parsed.n)

    asks = client.responses.create(model=MODEL, input=steps([["pay", {"amount": 3}]], ["so: ", None]))
    [asked] = asks.output
    answer = {"type": "mcp_approval_response", "approval_request_id": asked.id, "approve": True}
    paid = client.responses.create(model=MODEL, previous_response_id=asks.id, input=[answer])
    show(asked=asked.name, output=paid.output[0].output, text=paid.output_text)

    runs = client.responses.create(model=MODEL, input="Count", background=True)
    cancelled = client.responses.cancel(runs.id)
    show(status=cancelled.status, again=client.responses.cancel(runs.id).status)
    client.responses.delete(one.id)
    try:
        client.responses.retrieve(one.id)
    except NotFoundError as error:
        show(status=error.status_code, code=error.code)
    try:
        client.responses.create(model=MODEL, input="a", previous_response_id=one.id)
    except BadRequestError as error:
        show(code=error.code, param=error.param)


def background(client: OpenAI) -> None:
    """A stream in the background, taken up behind its last event as often as it breaks off; a line an event."""
    response_id, seen, message = "", -1, sys.argv[3]
    stream = client.responses.create(model=MODEL, input=message, background=True, stream=True)
    while True:
        try:
            for event in stream:
                seen = event.sequence_number
                if event.type == "response.created":
                    response_id = event.response.id
                show(event=event.to_dict())
                if event.type in ("response.completed", "response.failed", "response.incomplete"):
                    return
        except (APIError, OSError):
            pass
        for _ in range(100):
            time.sleep(0.1)
            try:
                stream = client.responses.retrieve(response_id, stream=True, starting_after=seen)
                break
            except (APIError, OSError):
                continue


def comply(client: OpenAI) -> None:
    """The cases of the specification's compliance suite that are of HTTP, held to its types."""
    user = {"type": "message", "role": "user"}
    calls = {"input": [user | {"content": steps([["where", {"n": 1}]])}], "tools": [WHERE]}
    image = [{"type": "input_text", "text": steps(["a heart"])}, {"type": "input_image", "image_url": PNG}]
    said = {"type": "message", "role": "assistant"}
    phases = [
        said | {"phase": "commentary", "content": "I should answer with the number."},
        said | {"phase": "final_answer", "content": "The number is four."},
        user | {"content": steps(["four"])},
    ]
    turns = [
        user | {"content": "My name is Alice."},
        said | {"content": "Hello Alice!"},
        user | {"content": steps(["Alice"])},
    ]
    system = [{"type": "message", "role": "system", "content": "Be a pirate."}, user | {"content": steps(["Arr"])}]
    for name, body, kind in (
        ("basic-response", {"input": [user | {"content": steps(["Hello"])}]}, "message"),
        ("assistant-phase", {"input": phases}, "message"),
        ("streaming-response", {"input": [user | {"content": steps([{"think": "hm"}, "1", "2"])}]}, "message"),
        ("system-prompt", {"input": system}, "message"),
        ("tool-calling", calls, "function_call"),
        ("image-input", {"input": [user | {"content": image}]}, "message"),
        ("multi-turn", {"input": turns}, "message"),
    ):
        whole = client.post("/responses", cast_to=object, body={"model": MODEL, **body})
        types.ResponseResource.model_validate(whole)
        kinds = [item["type"] for item in whole["output"]]
        show(case=name, status=whole["status"], has=kind in kinds, events=streamed(client, {"model": MODEL, **body}))


def streamed(client: OpenAI, body: dict[str, Any]) -> int:
    """How many events a stream has; each is of a type of the specification, and `[DONE]` is the last line."""
    found = {
        next(iter(member.model_fields["type"].annotation)).value: member
        for member in vars(types).values()
        if isinstance(member, type) and member.__name__.endswith("StreamingEvent") and issubclass(member, BaseModel)
    }
    count, name, last = 0, "", ""
    with client.with_streaming_response.responses.create(**body, stream=True) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        for line in response.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                last = line.removeprefix("data: ")
                if last != "[DONE]":
                    found[name].model_validate_json(last)
                    assert json.loads(last)["sequence_number"] == count
                    count += 1
    assert last == "[DONE]"
    return count


if __name__ == "__main__":
    with OpenAI(base_url=f"{sys.argv[1]}/v1", api_key=sys.argv[2]) as connected:
        {"acts": acts, "background": background, "comply": comply}[sys.argv[-1]](connected)
