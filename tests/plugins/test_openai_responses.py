"""OpenAI's Responses over HTTP: created, continued, read again, cancelled, deleted, refused."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from bytebrew import Message, MessageDelta, Thinking
from bytebrew.contract.provider import Capabilities
from bytebrew.engine import Engine
from bytebrew.testing import ScriptedProvider, providing, scripted_schema, served_engine, token
from bytebrew.testing import client as client_of
from tests.peers import paced

AT = "/v1/responses"
WHERE = {"type": "function", "name": "where", "description": "The place", "parameters": {"type": "object"}}
PNG = "data:image/png;base64,iVBORw0KGgo="
SLOW = json.dumps([[one for n in range(20) for one in (f"word{n} ", 0.05)]])


class Seeing(ScriptedProvider):
    """A model that takes images and files."""

    capabilities = Capabilities(vision=True, documents=True)


@asynccontextmanager
async def world(data: Path, view: str = "full") -> AsyncIterator[tuple[Engine, httpx.AsyncClient]]:
    """An engine whose model does the steps of its message, and the client of a token that may chat."""
    async with served_engine(("paced", paced), data=data) as (running, admin):
        for path, body in (
            ("models", {"type": "paced", "model_name": "paced"}),
            ("agents", {"model": "talk", "tools": ["weather", "pay"], "tool_execution": "parallel"}),
            ("schemas", {"entry_agent": "talk", "chat_enabled": True, "client_tools": True, "view": view}),
        ):
            made = await admin.post(f"/api/v1/{path}", json={"name": "talk", **body})
            assert made.status_code == 201, made.text
        async with client_of(running, await token(running, "chat")) as client:
            yield running, client


@asynccontextmanager
async def scripted(data: Path, *answers: str) -> AsyncIterator[tuple[ScriptedProvider, httpx.AsyncClient]]:
    provider = Seeing(*([MessageDelta(content=one)] for one in answers))
    async with served_engine(providing(provider), data=data) as (running, client):
        await scripted_schema(running, "talk")
        yield provider, client


async def create(client: httpx.AsyncClient, *steps: Any, status: int = 200, **body: Any) -> Any:
    sent = {"model": "talk", **({"input": json.dumps(steps)} if steps else {}), **body}
    answer = await client.post(AT, json=sent)
    assert answer.status_code == status, answer.text
    return answer.json()


async def get(client: httpx.AsyncClient, response_id: str, **query: Any) -> Any:
    answer = await client.get(f"{AT}/{response_id}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def text(response: Any) -> str:
    parts = [part for item in response["output"] if item["type"] == "message" for part in item["content"]]
    return "".join(part["text"] for part in parts)


def result(call: Any, output: str) -> Any:
    return {"type": "function_call_output", "call_id": call["call_id"], "output": output}


def error_of(answer: Any) -> tuple[str, str]:
    return answer["error"]["code"], answer["error"]["param"]


async def test_a_response_is_the_same_at_once_later_and_as_the_end_of_its_stream(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, client):
        one = await create(client, ["Hel", "lo"], metadata={"a": "b"}, temperature=0.5, store=True)
        assert (text(one), one["status"], one["model"]) == ("Hello", "completed", "talk")
        assert (one["metadata"], one["temperature"]) == ({"a": "b"}, 0.5)
        assert await get(client, one["id"]) == one
        first = await client.get(f"{AT}/{one['id']}?stream=true&include[]=x&include_obfuscation=false")
        assert json.loads(first.text.split("data: ")[-2])["response"] == one
        rest = await client.get(f"{AT}/{one['id']}?stream=true&starting_after=4")
        assert first.text.endswith(rest.text.removeprefix(": ok\n\n"))
        assert '"sequence_number":5' in rest.text[:120]


async def test_the_next_response_goes_on_with_the_session_and_an_older_one_is_forked(tmp_path: Path) -> None:
    async with scripted(tmp_path, "one", "two", "three") as (provider, client):
        one = await create(client, input="a")
        two = await create(client, input="b", previous_response_id=one["id"], model="")
        assert two["previous_response_id"] == one["id"]
        three = await create(client, input="c", previous_response_id=one["id"])
        contents = [[message.content for message in asked.messages] for asked in provider.requests]
        assert contents == [["a"], ["a", "one", "b"], ["a", "one", "c"]]
        assert text(await get(client, two["id"])) == "two"
        assert text(await get(client, three["id"])) == "three"
        sessions = (await client.get("/api/v1/sessions")).json()["data"]
        assert len(sessions) == 2


async def test_instructions_and_words_of_system_and_developer_are_for_the_turn(tmp_path: Path) -> None:
    items = [
        {"role": "system", "content": "Rhyme"},
        {"role": "developer", "content": "Now"},
        {"role": "user", "content": "a"},
    ]
    async with scripted(tmp_path, "one") as (provider, client):
        one = await create(client, input=items, instructions="Be brief")
        assert one["instructions"] == "Be brief"
        before, message = provider.requests[0].messages
        assert before.content.endswith("Be brief\n\nRhyme\n\nNow")
        assert message.content == "a"


async def test_images_and_files_reach_the_model_and_are_listed_without_their_bytes(tmp_path: Path) -> None:
    content = [
        {"type": "input_text", "text": "See"},
        {"type": "input_image", "image_url": PNG},
        {"type": "input_image", "image_url": "https://x.example/a.png"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="},
    ]
    async with scripted(tmp_path, "one") as (provider, client):
        one = await create(client, input=[{"role": "user", "content": content}])
        files = provider.requests[0].messages[-1].attachments
        assert [(each.media_type, each.url, each.name) for each in files] == [
            ("image/png", "", ""),
            ("image/png", "https://x.example/a.png", ""),
            ("application/pdf", "", "a.pdf"),
        ]
        [item] = (await client.get(f"{AT}/{one['id']}/input_items")).json()["data"]
        assert [part.get("image_url") for part in item["content"]] == [None, None, "https://x.example/a.png", None]
        assert "aGk=" not in json.dumps(item)


async def test_the_client_runs_its_tools_and_the_next_response_has_the_answer(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, client):
        one = await create(client, [["where", {"n": 1}], ["where", {"n": 2}]], ["at ", None], tools=[WHERE])
        calls = one["output"]
        assert [call["arguments"] for call in calls] == ['{"n":1}', '{"n":2}']
        few = await create(client, input=[result(calls[0], "x")], previous_response_id=one["id"], status=400)
        assert few["error"]["message"] == f"No tool output found for function call {calls[1]['call_id']}."
        plain = await create(client, input="And?", previous_response_id=one["id"], status=400)
        assert "No tool output found" in plain["error"]["message"]
        unknown = {"type": "function_call_output", "call_id": "call_x", "output": ""}
        wrong = await create(client, input=[unknown], previous_response_id=one["id"], status=400)
        assert "No tool call found" in wrong["error"]["message"]
        outputs = [result(call, f"place {n}") for n, call in enumerate(calls)]
        two = await create(client, input=outputs, previous_response_id=one["id"], tools=[WHERE])
        assert text(two).startswith("at place ")
        again = await create(client, input=outputs, previous_response_id=one["id"])
        assert again == two
        other = [result(calls[0], "elsewhere"), outputs[1]]
        await create(client, input=other, previous_response_id=one["id"], status=409)
        items = (await client.get(f"{AT}/{two['id']}/input_items?order=asc")).json()["data"]
        assert sorted(item["output"] for item in items) == ["place 0", "place 1"]
        three = await create(client, ["on"], previous_response_id=two["id"])
        assert text(three) == "on"
        from_the_middle = await create(client, ["still"], previous_response_id=one["id"])
        assert text(from_the_middle) == "still"


async def test_a_message_beside_results_reaches_the_same_turn(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, client):
        one = await create(client, [["where", {}]], ["at ", None], tools=[WHERE])
        steer = {"role": "user", "content": json.dumps([["both"]])}
        sent = {"input": [result(one["output"][0], "x"), steer], "previous_response_id": one["id"]}
        first, again = [await client.post(AT, json=sent, headers={"Idempotency-Key": "k"}) for _ in range(2)]
        two = first.json()
        assert (two["id"].startswith(one["id"]), two["status"], text(two)) == (True, "completed", "both")
        assert again.json() == two
        assert len((await client.get("/api/v1/sessions")).json()["data"]) == 1


@pytest.mark.parametrize("approve", [True, False])
async def test_a_person_approves_by_an_item(tmp_path: Path, approve: bool) -> None:
    async with world(tmp_path) as (_, client):
        one = await create(client, [["pay", {"amount": 3}]], ["so: ", None])
        [asked] = one["output"]
        assert (asked["type"], asked["name"]) == ("mcp_approval_request", "pay")
        answer = {"type": "mcp_approval_response", "approval_request_id": asked["id"], "approve": approve}
        two = await create(client, input=[answer], previous_response_id=one["id"])
        [call] = [item for item in two["output"] if item["type"] == "mcp_call"]
        assert call["approval_request_id"] == asked["id"]
        assert (call["status"], call["output"]) == (("completed", "paid 3") if approve else ("failed", None))
        again = await create(client, input=[answer], previous_response_id=one["id"])
        assert again == two
        await create(client, input=[answer | {"approve": not approve}], previous_response_id=one["id"], status=409)


async def test_what_a_person_approves_in_the_inbox_goes_on_and_may_still_be_answered(tmp_path: Path) -> None:
    async with world(tmp_path) as (running, client):
        one = await create(client, [["pay", {"amount": 3}]], ["so: ", None])
        [asked] = one["output"]
        async with client_of(running, await token(running, "approvals")) as person:
            done = await person.post(f"/api/v1/approvals/{asked['id']}/respond", json={"answers": ["approve"]})
            assert done.status_code == 200, done.text
        answer = {"type": "mcp_approval_response", "approval_request_id": asked["id"], "approve": True}
        two = await create(client, input=[answer], previous_response_id=one["id"])
        assert text(two) == "so: paid 3"


async def test_in_the_background_it_is_asked_for_later_and_its_stream_goes_on(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, client):
        one = await create(client, input=SLOW, background=True)
        assert (one["status"], one["background"]) in (("queued", True), ("in_progress", True))
        async with client.stream("GET", f"{AT}/{one['id']}?stream=true") as live:
            whole = "".join([chunk async for chunk in live.aiter_text()])
        later = await client.get(f"{AT}/{one['id']}?stream=true")
        assert later.text == whole
        final = await get(client, one["id"])
        assert final["status"] == "completed"
        assert text(final).startswith("word0 word1 ")


async def test_one_that_is_cancelled_ends_as_cancelled_and_stays_so(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, client):
        one = await create(client, input=SLOW, background=True)
        while not (await get(client, one["id"]))["output"]:
            await asyncio.sleep(0.05)
        waiting = await create(client, ["b"], previous_response_id=one["id"], background=True)
        assert waiting["status"] == "queued"
        assert (await client.post(f"{AT}/{waiting['id']}/cancel")).status_code == 409
        cancelled = (await client.post(f"{AT}/{one['id']}/cancel")).json()
        assert (cancelled["status"], cancelled["output"][0]["status"]) == ("cancelled", "incomplete")
        assert (await client.post(f"{AT}/{one['id']}/cancel")).json() == cancelled
        assert await get(client, one["id"]) == cancelled
        stream = await client.get(f"{AT}/{one['id']}?stream=true")
        assert "event: response.incomplete" in stream.text


async def test_a_deleted_response_is_gone_and_later_ones_keep_what_was_said(tmp_path: Path) -> None:
    async with scripted(tmp_path, "one", "two", "three") as (provider, client):
        one = await create(client, input="a")
        two = await create(client, input="b", previous_response_id=one["id"])
        answer = await client.delete(f"{AT}/{one['id']}")
        assert answer.json() == {"id": one["id"], "object": "response", "deleted": True}
        for method, path in (("GET", ""), ("GET", "/input_items"), ("POST", "/cancel"), ("DELETE", "")):
            gone = await client.request(method, f"{AT}/{one['id']}{path}")
            assert (gone.status_code, gone.json()["error"]["type"]) == (404, "not_found_error")
        refused = await create(client, input="c", previous_response_id=one["id"], status=400)
        assert error_of(refused) == ("previous_response_not_found", "previous_response_id")
        await create(client, input="c", previous_response_id=two["id"])
        assert [message.content for message in provider.requests[-1].messages] == ["a", "one", "b", "two", "c"]


async def test_the_only_response_of_a_session_is_deleted_with_it_and_one_that_runs_is_cancelled(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, client):
        one = await create(client, input=SLOW, background=True)
        [session] = (await client.get("/api/v1/sessions")).json()["data"]
        assert (await client.delete(f"{AT}/{one['id']}")).status_code == 200
        assert (await client.get(f"{AT}/{one['id']}")).status_code == 404
        assert (await client.get(f"/api/v1/sessions/{session['id']}")).status_code == 404


async def test_one_that_is_not_stored_is_found_by_no_later_request(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, client):
        one = await create(client, ["a"], store=False)
        assert (text(one), one["store"]) == ("a", False)
        assert (await client.get(f"{AT}/{one['id']}")).status_code == 404
        refused = await create(client, ["b"], previous_response_id=one["id"], status=400)
        assert error_of(refused)[0] == "previous_response_not_found"
        assert error_of(await create(client, ["b"], store=False, background=True, status=400))[1] == "background"


async def test_input_items_come_in_pages(tmp_path: Path) -> None:
    said = [{"role": "user", "content": f"m{n}"} for n in range(3)]
    async with scripted(tmp_path, "one") as (_, client):
        one = await create(client, input=said)
        at = f"{AT}/{one['id']}/input_items"
        newest = (await client.get(at)).json()
        texts = [item["content"][0]["text"] for item in newest["data"]]
        assert (texts, newest["has_more"]) == (["m2", "m1", "m0"], False)
        first = (await client.get(f"{at}?order=asc&limit=2&include[]=x")).json()
        assert (first["has_more"], first["first_id"], len(first["data"])) == (True, first["data"][0]["id"], 2)
        second = (await client.get(f"{at}?order=asc&limit=2&after={first['last_id']}")).json()
        assert [item["content"][0]["text"] for item in second["data"]] == ["m2"]
        for query in ("order=up", "limit=0", "limit=101", "limit=x", "after=none"):
            assert (await client.get(f"{at}?{query}")).status_code == 400


async def test_a_client_that_sends_all_goes_on_with_its_session_and_an_edit_forks_it(tmp_path: Path) -> None:
    def items(*said: str) -> list[Any]:
        roles = ("user", "assistant")
        return [{"role": roles[n % 2], "content": one} for n, one in enumerate(said)]

    async with scripted(tmp_path, "one", "two", "three", "four") as (provider, client):
        await create(client, input=items("a"))
        two = await create(client, input=items("a", "one", "b"))
        listed = (await client.get(f"{AT}/{two['id']}/input_items")).json()["data"]
        assert [item["content"][0]["text"] for item in listed] == ["b"]
        assert len((await client.get("/api/v1/sessions")).json()["data"]) == 1
        await create(client, input=items("a", "one", "other"))
        await create(client, input=items("a", "changed", "b"))
        contents = [[message.content for message in asked.messages] for asked in provider.requests]
        assert contents[2:] == [["a", "one", "other"], ["a", "changed", "b"]]
        assert len((await client.get("/api/v1/sessions")).json()["data"]) == 3


async def test_a_client_that_sends_all_gives_results_of_its_tools(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, client):
        message = {
            "role": "user",
            "content": json.dumps([["hm ", ["where", {}]], [["where", {"n": 2}]], ["at ", None]]),
        }
        one = await create(client, input=[message], tools=[WHERE])
        sent = [message, *one["output"], result(one["output"][-1], "here")]
        two = await create(client, input=sent, tools=[WHERE])
        sent += [*two["output"], result(two["output"][-1], "there")]
        three = await create(client, input=sent, tools=[WHERE])
        assert text(three) == "at there"
        assert await create(client, input=sent, tools=[WHERE]) == three
        four = await create(client, input=[*sent, *three["output"], {"role": "user", "content": '[["end"]]'}])
        assert text(four) == "end"
        assert len((await client.get("/api/v1/sessions")).json()["data"]) == 1
        nowhere = await create(client, input=[message, result(one["output"][-1], "x") | {"call_id": "c"}], status=400)
        assert error_of(nowhere)[1] == "input"


async def test_conversations_that_begin_alike_are_not_mixed_up(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, client):
        message = {"role": "user", "content": json.dumps([["hm ", ["where", {}]], ["at ", None]])}
        one, other = [await create(client, input=[message], tools=[WHERE]) for _ in range(2)]
        mine = [message, *one["output"], result(one["output"][-1], "here")]
        assert text(await create(client, input=mine, tools=[WHERE])) == "at here"
        bare = [{name: value for name, value in item.items() if name != "id"} for item in other["output"]]
        unnamed = [message, *bare, result(other["output"][-1], "there")]
        assert error_of(await create(client, input=unnamed, tools=[WHERE], status=409))[0] == "conflict"
        theirs = [message, *other["output"], result(other["output"][-1], "there")]
        assert text(await create(client, input=theirs, tools=[WHERE])) == "at there"


async def test_a_history_that_two_sessions_have_begins_a_third(tmp_path: Path) -> None:
    items = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "one"}]
    async with scripted(tmp_path, "one", "one", "two") as (provider, client):
        for _ in range(2):
            await create(client, input="a")
        await create(client, input=[*items, {"role": "user", "content": "b"}])
        assert [message.content for message in provider.requests[-1].messages] == ["a", "one", "b"]
        assert len((await client.get("/api/v1/sessions")).json()["data"]) == 3


async def test_items_may_be_referred_to(tmp_path: Path) -> None:
    async with world(tmp_path) as (running, client):
        message = {"role": "user", "content": '[["one"]]'}
        one = await create(client, input=[message])
        referred = {"type": "item_reference", "id": one["output"][0]["id"]}
        two = await create(client, input=[message, referred, {"role": "user", "content": '[["two"]]'}])
        assert text(two) == "two"
        assert len((await client.get("/api/v1/sessions")).json()["data"]) == 1
        async with client_of(running, await token(running, "chat")) as stranger:
            await create(stranger, input=[referred], status=404)
        await create(client, input=[{"type": "item_reference", "id": "msg_x"}], status=404)
        await client.delete(f"{AT}/{one['id']}")
        await create(client, input=[message, referred, message], status=404)


async def test_a_response_of_a_turn_that_has_two_is_deleted_alone(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, client):
        one = await create(client, [["where", {}]], ["at ", None], tools=[WHERE])
        two = await create(client, input=[result(one["output"][0], "x")], previous_response_id=one["id"])
        await client.delete(f"{AT}/{one['id']}")
        assert await get(client, two["id"]) == two
        await client.delete(f"{AT}/{two['id']}")
        assert (await client.get("/api/v1/sessions")).json()["data"] == []


async def test_a_conversation_that_the_assistant_begins_is_taken(tmp_path: Path) -> None:
    items = [{"role": "assistant", "content": "Four.", "phase": "final_answer"}, {"role": "user", "content": "Again"}]
    async with scripted(tmp_path, "four") as (provider, client):
        assert text(await create(client, input=items)) == "four"
        before, message = provider.requests[0].messages
        assert "Four." in before.content
        assert message == Message(role="user", content="Again")


async def test_a_structured_answer_is_asked_for_by_text_format(tmp_path: Path) -> None:
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
    async with scripted(tmp_path, '{"n": 1}') as (_, client):
        form = {"type": "json_schema", "name": "number", "schema": schema, "strict": True}
        one = await create(client, input="a", text={"format": form})
        assert json.loads(text(one)) == {"n": 1}
        assert one["text"]["format"] == form
        await create(client, input="a", text={"format": {"type": "json_object"}})
        old = schema | {"$schema": "http://json-schema.org/draft-07/schema#"}
        assert (await create(client, input="a", text={"format": form | {"schema": old}}))["status"] == "completed"
        bad = await create(client, input="a", text={"format": form | {"schema": {"type": "x"}}}, status=400)
        assert error_of(bad)[1].startswith("text.format.schema")


async def test_a_model_that_fails_is_a_response_that_failed(tmp_path: Path) -> None:
    provider = ScriptedProvider([RuntimeError("down")])
    async with served_engine(providing(provider), data=tmp_path) as (running, client):
        await scripted_schema(running, "talk")
        one = await create(client, input="a")
        assert (one["status"], set(one["error"])) == ("failed", {"code", "message"})


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": ""}, "model"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"role": "assistant", "content": "x"}]}, "input"),
        ({"input": [{"role": "king", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        ({"input": [{"role": "user", "content": [{"type": "x"}]}]}, "input[0].content[0].type"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "input[0].content[0].image_url",
        ),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0].file_data"),
        ({"input": [{"type": "computer_call"}]}, "input[0].type"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "n", "arguments": "["}]}, "input[0].arguments"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": 1}]}, "input[0].output"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0]"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "x"}}, "tool_choice"),
        ({"metadata": {"a": 1}}, "metadata[...]"),
        ({"previous_response_id": "resp_x"}, "previous_response_id"),
    ],
)
async def test_what_cannot_be_honoured_is_refused_by_name(tmp_path: Path, body: Any, param: str) -> None:
    async with scripted(tmp_path, "one") as (_, client):
        refused = await create(client, **{"input": "a", **body}, status=400)
        assert (refused["error"]["type"], refused["error"]["param"]) == ("invalid_request_error", param)


async def test_tool_choice_limits_the_tools_that_the_model_has(tmp_path: Path) -> None:
    provider = ScriptedProvider([MessageDelta(content="a")])
    other = WHERE | {"name": "other"}
    async with served_engine(providing(provider), data=tmp_path) as (running, client):
        await scripted_schema(running, "talk")
        assert (await client.patch("/api/v1/schemas/talk", json={"client_tools": True})).status_code == 200
        only = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "other"}]}
        for choice in ("auto", only, "none"):
            await create(client, input="a", tools=[WHERE, other], tool_choice=choice)
        names = [[tool.name for tool in asked.tools] for asked in provider.requests]
        assert names == [["where", "other"], ["other"], []]


async def test_another_caller_finds_nothing_and_a_bound_token_no_other_schema(tmp_path: Path) -> None:
    async with world(tmp_path) as (running, client):
        one = await create(client, ["a"])
        async with client_of(running, await token(running, "chat")) as stranger:
            for method, path in (("GET", ""), ("GET", "/input_items"), ("POST", "/cancel"), ("DELETE", "")):
                answer = await stranger.request(method, f"{AT}/{one['id']}{path}")
                assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
            refused = await create(stranger, ["b"], previous_response_id=one["id"], status=400)
            assert error_of(refused)[0] == "previous_response_not_found"
        async with client_of(running, await token(running, "chat", schemas=["other"])) as bound:
            assert (await create(bound, ["a"], status=403))["error"]["type"] == "permission_error"
        nobody = await client.get(f"{AT}/{one['id']}", headers={"Authorization": "Bearer bb_no"})
        assert (nobody.status_code, nobody.json()["error"]["type"]) == (401, "authentication_error")
        unknown = await create(client, ["a"], model="none", status=404)
        assert error_of(unknown) == ("model_not_found", "model")
        assert "GET /v1/models lists yours" in unknown["error"]["message"]
        for response_id in ("none", "resp_", f"{one['id']}_1", f"{one['id']}_{'9' * 30}", one["output"][0]["id"]):
            for query in ("", "?stream=true"):
                assert (await client.get(f"{AT}/{response_id}{query}")).status_code == 404


async def test_a_turn_of_another_protocol_is_no_response(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, client):
        other = await client.post("/api/v1/schemas/talk/chat", json={"message": '[["a"]]', "stream": False})
        turn_id = other.json()["turn_id"].removeprefix("turn_")
        assert (await client.get(f"{AT}/resp_{turn_id}")).status_code == 404


async def test_the_public_view_has_no_tools_reasoning_or_usage_and_cannot_approve(tmp_path: Path) -> None:
    async with world(tmp_path, view="public") as (running, client):
        steps = [{"think": "s3cr3t"}, "a ", ["weather", {"city": "s3cr3t"}]], [["pay", {"amount": 7}]], ["b"]
        one = await create(client, *steps)
        assert (one["status"], text(one)) == ("in_progress", "a ")
        async with client_of(running, await token(running, "approvals")) as person:
            [question] = (await person.get("/api/v1/approvals")).json()["data"]
            answer = {
                "type": "mcp_approval_response",
                "approval_request_id": question["id"],
                "approve": True,
            }
            await create(client, input=[answer], previous_response_id=one["id"], status=400)
            said = await person.post(f"/api/v1/approvals/{question['id']}/respond", json={"answers": ["approve"]})
            assert said.status_code == 200
        while (final := await get(client, one["id"]))["status"] == "in_progress":
            await asyncio.sleep(0.02)
        stream = await client.get(f"{AT}/{one['id']}?stream=true")
        assert (text(final), final["usage"]["total_tokens"]) == ("a b", 0)
        for shown in (json.dumps(final), stream.text):
            assert not {word for word in ("s3cr3t", "weather", "pay", "Sunny") if word in shown}


async def test_the_same_key_gives_the_same_response_and_the_same_bytes(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, client):
        sent = {"model": "talk", "input": '[["a", ["where", {}]], ["b"]]', "tools": [WHERE], "stream": True}
        first, second = [await client.post(AT, json=sent, headers={"Idempotency-Key": "k"}) for _ in range(2)]
        assert first.content == second.content
        done = json.loads(first.text.split("data: ")[-2])["response"]
        more = {"model": "talk", "previous_response_id": done["id"], "input": [result(done["output"][-1], "x")]}
        third, fourth = [await client.post(AT, json=more, headers={"Idempotency-Key": "l"}) for _ in range(2)]
        assert third.content == fourth.content
        assert text(third.json()) == "b"
        sessions = (await client.get("/api/v1/sessions")).json()["data"]
        assert len(sessions) == 1


async def test_a_thought_is_shown_to_whoever_may_see_it(tmp_path: Path) -> None:
    provider = ScriptedProvider([Thinking(content="hm"), MessageDelta(content="a")])
    async with served_engine(providing(provider), data=tmp_path) as (running, client):
        await scripted_schema(running, "talk")
        one = await create(client, input="a")
        assert one["output"][0]["summary"] == [{"type": "summary_text", "text": "hm"}]


async def test_a_request_that_waits_behind_a_response_finds_its_own_when_it_is_sent_again(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, client):
        first = await create(client, input=SLOW, background=True)
        sent = {"input": "[]", "previous_response_id": first["id"], "background": True}
        both = [await client.post(AT, json=sent, headers={"Idempotency-Key": "k"}) for _ in range(2)]
        assert [one.status_code for one in both] == [200, 200]
        assert both[0].json()["id"] == both[1].json()["id"] != first["id"]


async def test_responses_behind_the_same_one_at_the_same_time_know_nothing_of_each_other(tmp_path: Path) -> None:
    async with world(tmp_path) as (running, client):
        first = await create(client, ["root"])
        for _ in range(4):
            made = await asyncio.gather(
                *(create(client, [f"branch {n}"], previous_response_id=first["id"]) for n in range(6))
            )
            assert [text(one) for one in made] == [f"branch {n}" for n in range(6)]
            first = await create(client, ["root"], previous_response_id=made[0]["id"])
        await no_session_has(running, "branch 1", "branch 2")


async def no_session_has(running: Engine, *texts: str) -> None:
    """No session has an answer of more than one of these."""
    async with client_of(running) as admin:
        found = (await admin.get("/api/v1/sessions", params={"limit": 100})).json()["data"]
        for one in found:
            rows = (await admin.get(f"/api/v1/sessions/{one['id']}/messages")).json()
            assert len({row["content"] for row in rows if row["content"] in texts}) < 2


async def test_a_message_beside_results_that_come_too_late_is_refused_with_them(tmp_path: Path) -> None:
    async with world(tmp_path) as (running, client):
        asked = await create(client, [["where", {}]], tools=[WHERE])
        assert (await client.post(f"{AT}/{asked['id']}/cancel")).status_code == 200
        items = [result(asked["output"][0], "Zürich"), {"role": "user", "content": '[["more"]]'}]
        for _ in range(2):
            refused = await create(client, input=items, previous_response_id=asked["id"], status=410)
            assert error_of(refused)[0] == "gone"
        async with client_of(running) as admin:
            [session] = (await admin.get("/api/v1/sessions")).json()["data"]
            assert session["message_count"] == 2
        assert text(await create(client, ["next"], previous_response_id=asked["id"])) == "next"
