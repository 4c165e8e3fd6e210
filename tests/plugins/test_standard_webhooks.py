"""Signatures of Standard Webhooks, held against the specification's own library in both directions."""

import asyncio
import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from bytebrew import new_webhook_secret, webhook_key, webhook_signature
from tests.plugins.test_triggers import NOON, WEBHOOKS, Clock, engine_at, made, refused_as, tasks

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(bytes(range(24))).decode()
BODY = b'{"id": 7}'


def headers(
    *secrets: str, message_id: str = "msg_1", moment: datetime = NOON, body: bytes = BODY, signature: str = ""
) -> dict[str, str]:
    """The headers of a message, signed by the library with each of the secrets."""
    signed = [Webhook(secret).sign(message_id, moment, body.decode()) for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": signature or " ".join(signed),
    }


async def send(client: httpx.AsyncClient, sent: dict[str, str], body: bytes = BODY) -> httpx.Response:
    return await client.post(f"{WEBHOOKS}/orders", content=body, headers={"authorization": "", **sent})


@given(st.binary(min_size=24, max_size=64), st.from_regex(r"[a-zA-Z0-9_-]{1,40}", fullmatch=True), st.text())
def test_what_we_sign_the_library_verifies_and_what_it_signs_is_what_we_sign(
    key: bytes, message_id: str, text: str
) -> None:
    moment, body = datetime.now(UTC), text.encode("utf-8", "replace")
    library = Webhook(key)
    ours = webhook_signature(key, message_id, int(moment.timestamp()), body)
    assert ours == library.sign(message_id, moment, body.decode())


def test_a_secret_is_whsec_and_24_to_64_bytes_in_base64() -> None:
    assert webhook_key(SECRET) == Webhook(SECRET)._whsecret
    assert len(webhook_key(new_webhook_secret())) == 32
    for wrong in (
        "",
        "whsec_",
        SECRET[6:],
        "whsec_short",
        f"whsec_{'A' * 100}",
        "whsec_no base64, though long",
    ):
        with pytest.raises(ValueError, match="whsec_"):
            webhook_key(wrong)


async def test_a_message_that_the_library_signs_makes_a_task_and_its_repeat_gets_the_same_answer() -> None:
    clock = Clock()
    async with engine_at(clock) as (_, client):
        await made(client, WEBHOOKS, name="orders", secret=SECRET, title="Order {{body.id}}")
        first = await send(client, headers(SECRET))
        assert first.status_code == 202, first.text
        clock.moment += timedelta(hours=30)  # the sender tries again, with another timestamp
        again = await send(client, headers(SECRET, moment=clock.moment))
        assert (again.status_code, again.content) == (202, first.content)
        other = await send(client, headers(SECRET, moment=clock.moment, message_id="msg_2"))
        assert other.json()["task_id"] != first.json()["task_id"]
        assert [task["title"] for task in await tasks(client, "webhook")] == ["Order 7"] * 2


async def test_racing_repeats_make_one_task() -> None:
    async with engine_at(Clock()) as (_, client):
        await made(client, WEBHOOKS, name="orders", secret=SECRET)
        answers = await asyncio.gather(*(send(client, headers(SECRET)) for _ in range(10)))
        assert {(answer.status_code, answer.content) for answer in answers} == {(202, answers[0].content)}
        assert len(await tasks(client, "webhook")) == 1


async def test_one_of_several_signatures_is_enough_while_a_sender_replaces_its_secret() -> None:
    async with engine_at(Clock()) as (_, client):
        secret = (await made(client, WEBHOOKS, name="orders"))["secret"]
        assert secret.startswith("whsec_")
        sent = headers(OTHER, secret)
        sent["webhook-signature"] = f"v1a,not-ours {sent['webhook-signature']} v2,neither"
        assert (await send(client, sent)).status_code == 202


@pytest.mark.parametrize(
    ("sent", "body"),
    [
        (headers(OTHER), BODY),
        (headers(SECRET), b'{"id": 8}'),
        (headers(SECRET) | {"webhook-id": "msg_2"}, BODY),
        (headers(SECRET, moment=NOON - timedelta(seconds=301)), BODY),
        (headers(SECRET, moment=NOON + timedelta(seconds=301)), BODY),
        (headers(SECRET) | {"webhook-timestamp": str(int(NOON.timestamp()) + 1)}, BODY),
        (headers(SECRET) | {"webhook-timestamp": "now"}, BODY),
        (headers(SECRET) | {"webhook-signature": ""}, BODY),
        (headers(SECRET, message_id="a.b"), BODY),
        (headers(SECRET, message_id=""), BODY),
        (headers(*[OTHER] * 16, SECRET), BODY),
        ({}, BODY),
    ],
    ids=str,
)
async def test_what_is_not_signed_as_it_should_be_makes_no_task(sent: dict[str, str], body: bytes) -> None:
    async with engine_at(Clock()) as (_, client):
        await made(client, WEBHOOKS, name="orders", secret=SECRET)
        refused_as(await send(client, sent, body), 401, "unauthorized")
        assert await tasks(client, "webhook") == []


async def test_a_secret_of_the_engines_own_form_verifies_no_standard_signature() -> None:
    async with engine_at(Clock()) as (_, client):
        await made(client, WEBHOOKS, name="orders", secret="TWZLUTlyOEdLWXFyVHdqVVBEOElMUFpJbzJMYUxhU3c=")
        refused_as(await send(client, headers(SECRET)), 401, "unauthorized")


async def test_a_message_whose_task_could_not_be_made_may_come_again() -> None:
    async with engine_at(Clock()) as (_, client):
        await made(client, WEBHOOKS, name="orders", secret=SECRET, agent="test")
        agent: dict[str, Any] = (await client.get("/api/v1/agents/test")).json()
        await client.delete("/api/v1/schemas/test")
        assert (await client.delete("/api/v1/agents/test")).status_code == 204
        assert (await send(client, headers(SECRET))).status_code == 422
        await client.post("/api/v1/agents", json={"name": "test", "model": agent["model"]})
        assert (await send(client, headers(SECRET))).status_code == 202
