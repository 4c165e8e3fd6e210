"""What a program does with OpenAI's own client for Python, unchanged: `completions_client.py WHAT URL KEY [TEXT]`.

It writes a line of JSON for each thing that it gets.
"""

import base64
import json
import sys
import time
from typing import Any

import openai  # type: ignore[import-not-found,unused-ignore]
from pydantic import BaseModel

WHERE: Any = {
    "type": "function",
    "function": {
        "name": "where",
        "description": "The place",
        "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}},
    },
}
MODEL = "talk"


class Answer(BaseModel):
    """What a structured answer is."""

    n: int


def show(value: Any) -> None:
    print(json.dumps(value), flush=True)


def user(text: Any) -> Any:
    return {"role": "user", "content": text}


def models(client: openai.OpenAI, text: str) -> None:
    show([one.id for one in client.models.list()])
    show(client.models.retrieve(MODEL).owned_by)
    try:
        client.models.retrieve("no-such-model")
    except openai.NotFoundError as error:
        show([error.status_code, error.code, error.param])


def conversation(client: openai.OpenAI, text: str) -> None:
    """Three turns, whose answers are whole, streamed by chunks, and streamed by the client's own helper."""
    said: list[Any] = [{"role": "system", "content": "Be brief."}, user(text)]
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=said)
    whole = raw.parse()
    show(
        [raw.headers["x-session-id"], whole.choices[0].message.content, whole.usage.total_tokens if whole.usage else 0]
    )
    said += [whole.choices[0].message.to_dict(), user(text)]
    stream = client.chat.completions.create(
        model=MODEL, messages=said, stream=True, stream_options={"include_usage": True}
    )
    streamed, usage = "", 0
    for chunk in stream:
        streamed += "".join(choice.delta.content or "" for choice in chunk.choices)
        usage = chunk.usage.total_tokens if chunk.usage else usage
    show([stream.response.headers["x-session-id"], streamed, usage])
    said += [{"role": "assistant", "content": streamed}, user([{"type": "text", "text": text}])]
    with client.chat.completions.stream(model=MODEL, messages=said) as events:
        final = events.get_final_completion()
    show([None, final.choices[0].message.content, final.choices[0].finish_reason])


def tools(client: openai.OpenAI, text: str) -> None:
    """Runs the tools that the model calls, until it answers."""
    said: list[Any] = [user(text)]
    while True:
        with client.chat.completions.stream(model=MODEL, messages=said, tools=[WHERE]) as events:
            choice = events.get_final_completion().choices[0]
        calls = choice.message.tool_calls or []
        show([choice.finish_reason, choice.message.content, [one.function.arguments for one in calls]])
        said.append(choice.message.to_dict())
        for call in calls:
            said.append({"role": "tool", "tool_call_id": call.id, "content": f"place {call.function.arguments}"})
        if not calls:
            return


def approvals(client: openai.OpenAI, text: str) -> None:
    """Says yes to what is asked."""
    said: list[Any] = [user(text)]
    for _ in range(2):
        answer = client.chat.completions.create(model=MODEL, messages=said).choices[0].message.content
        show(answer)
        said += [{"role": "assistant", "content": answer}, user("approve")]


def structured(client: openai.OpenAI, text: str) -> None:
    """An answer as an object of the program's own type."""
    parsed = client.chat.completions.parse(model=MODEL, messages=[user(text)], response_format=Answer)
    message = parsed.choices[0].message
    show(message.parsed.n if message.parsed else None)


def image(client: openai.OpenAI, text: str) -> None:
    url = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
    parts = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}]
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=[user(parts)])
    show([raw.headers["x-session-id"], raw.parse().choices[0].message.content])


def errors(client: openai.OpenAI, text: str) -> None:
    """Errors as the client's own exceptions."""
    bad = client.with_options(api_key="no")
    said: list[Any] = [user(text)]
    calls: list[tuple[Any, dict[str, Any]]] = [
        (bad, {"model": MODEL, "messages": said}),
        (client, {"model": MODEL, "messages": said, "n": 2}),
        (client, {"model": MODEL, "messages": []}),
        (client, {"model": "other", "messages": said}),
    ]
    for caller, request in calls:
        try:
            caller.chat.completions.create(**request)
        except openai.APIStatusError as error:
            show([type(error).__name__, error.status_code, error.code, error.param])


def again(client: openai.OpenAI, text: str) -> None:
    """Sends a message with a key, and the same request again until its stream is whole."""
    patient = client.with_options(max_retries=0)
    while True:
        streamed = ""
        try:
            for chunk in patient.chat.completions.create(
                model=MODEL, messages=[user(text)], stream=True, extra_headers={"Idempotency-Key": "trial"}
            ):
                for choice in chunk.choices:
                    streamed += choice.delta.content or ""
                    show([streamed, choice.finish_reason])
                    if choice.finish_reason:
                        return
        except openai.APIConnectionError:
            time.sleep(0.2)


def retried(client: openai.OpenAI, text: str) -> None:
    """Sends a message and leaves the rest to the client, which repeats a request whose connection is lost."""
    show("sent")
    patient = client.with_options(max_retries=8)
    show(patient.chat.completions.create(model=MODEL, messages=[user(text)]).choices[0].message.content)


if __name__ == "__main__":
    what, url, key, *rest = sys.argv[1:]
    globals()[what](openai.OpenAI(base_url=f"{url}/v1", api_key=key), rest[0] if rest else "Hi")
