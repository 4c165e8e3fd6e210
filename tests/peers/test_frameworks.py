"""Frameworks that call OpenAI's wire talk to an agent with nothing of them changed but address and key."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commands import environment
from tests.peers.served import Served, served, slow, steps

pytestmark = [pytest.mark.peers, pytest.mark.timeout(180)]
CACHE = Path(__file__).parents[2] / ".cache/peers"
BEGIN = """
import json, os
url, token, message = os.environ["FACE_URL"], os.environ["FACE_TOKEN"], os.environ["FACE_MESSAGE"]
def show(value): print(json.dumps(value), flush=True)
"""
LANGCHAIN = f"""{BEGIN}
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel
class Place(BaseModel):
    "A city"
    city: str
def locate(exact: bool) -> str:
    "The place of the user"
    return "Oslo"
model = ChatOpenAI(model="talk", base_url=url, api_key=token)
"""
LITELLM = f"""{BEGIN}
import litellm
def complete(messages, **more):
    return litellm.completion(model="openai/talk", api_base=url, api_key=token, messages=messages, **more)
def user(text):
    return {{"role": "user", "content": text}}
"""


def calls(who: str) -> str:
    """The message of one test, as an answer belongs to a session by all messages before it."""
    return f"I am {who}. " + steps([["locate", {"exact": True}]], ["You are in ", None])


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One engine for all of these, which begin sessions of their own."""
    with served(tmp_path_factory.mktemp("engine")) as engine:
        yield engine


def run(peer: str, script: str, engine: Served, message: str) -> list[Any]:
    """What a script shows, in the environment of a peer."""
    python = CACHE / peer / "bin/python"
    assert python.exists(), "run tests/peers/setup.sh first"
    face = {"FACE_URL": f"{engine.url}/v1", "FACE_TOKEN": engine.token, "FACE_MESSAGE": message}
    done = subprocess.run(
        [python, "-c", script],
        env=environment(face) | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LANGSMITH_TRACING": "false"},
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line[:1] in '["{0123456789tfn']


def test_langchain_invokes_streams_and_goes_on(engine: Served) -> None:
    script = f"""{LANGCHAIN}
answer = model.invoke([SystemMessage("Be brief"), HumanMessage(message)])
show([answer.content, answer.response_metadata["finish_reason"], answer.usage_metadata["output_tokens"]])
chunks = [chunk.content for chunk in model.stream(message)]
show([len(chunks), "".join(chunks)])
show(model.invoke([HumanMessage(message), AIMessage("one two three"), HumanMessage(message)]).content)
"""
    whole, streamed, again = run("langchain", script, engine, steps(slow("one ", "two ", "three")))
    assert whole == ["one two three", "stop", 5]
    assert streamed[0] >= 3
    assert streamed[1] == again == "one two three"


def test_langchain_binds_tools_that_it_runs_itself(engine: Served) -> None:
    script = f"""{LANGCHAIN}
tools = model.bind_tools([locate])
asked = tools.invoke(message)
show([[call["name"], call["args"]] for call in asked.tool_calls])
history = [HumanMessage(message), asked, ToolMessage(locate(True), tool_call_id=asked.tool_calls[0]["id"])]
show(tools.invoke(history).content)
whole = None
for chunk in tools.stream(message):
    whole = chunk if whole is None else whole + chunk
show([[call["name"], call["args"]] for call in whole.tool_calls])
"""
    asked, answer, streamed = run("langchain", script, engine, calls("LangChain"))
    assert asked == streamed == [["locate", {"exact": True}]]
    assert answer == "You are in Oslo"


def test_langchain_has_structured_output(engine: Served) -> None:
    script = f"""{LANGCHAIN}
show(model.with_structured_output(Place).invoke(message).model_dump())
show(model.with_structured_output(Place, method="json_mode").invoke(message).model_dump())
"""
    assert run("langchain", script, engine, steps(['{"city": ', '"Oslo"}'])) == [{"city": "Oslo"}] * 2


def test_langchain_says_what_a_refusal_is(engine: Served) -> None:
    script = f"""{LANGCHAIN}
import openai
for kind, model in (
    (openai.NotFoundError, ChatOpenAI(model="nobody", base_url=url, api_key=token)),
    (openai.AuthenticationError, ChatOpenAI(model="talk", base_url=url, api_key="bb_no")),
):
    try:
        model.invoke(message)
    except kind as error:
        show([error.status_code, bool(error.body["message"])])
"""
    assert run("langchain", script, engine, "[[]]") == [[404, True], [401, True]]


def test_litellm_completes_streams_and_calls_tools(engine: Served) -> None:
    script = f"""{LITELLM}
answer = complete([user("Count")])
show([len(answer.choices[0].message.content), answer.choices[0].finish_reason, answer.usage.completion_tokens])
chunks = list(complete([user("Count")], stream=True, stream_options={{"include_usage": True}}))
text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
show([len(chunks) > 20, len(text), chunks[-1].usage.completion_tokens])
tool = {{"name": "locate", "description": "The place", "parameters": {{"type": "object", "properties": {{}}}}}}
tools = [{{"type": "function", "function": tool}}]
asked = complete([user(message)], tools=tools).choices[0]
call = asked.message.tool_calls[0]
show([asked.finish_reason, call.function.name, json.loads(call.function.arguments)])
result = {{"role": "tool", "tool_call_id": call.id, "content": "Oslo"}}
show(complete([user(message), asked.message.model_dump(), result], tools=tools).choices[0].message.content)
"""
    counted = len("".join(f"word {n} " for n in range(1, 41)))
    whole, streamed, asked, answer = run("litellm", script, engine, calls("LiteLLM"))
    assert whole == [counted, "stop", 5]
    assert streamed == [True, counted, 5]
    assert asked == ["tool_calls", "locate", {"exact": True}]
    assert answer == "You are in Oslo"
