"""Calling a stored model: who answers in its place, when it is left alone, and what its tokens cost."""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest

from bytebrew.base.circuit_breaker import Breaker
from bytebrew.base.errors import ProviderError, Unprocessable
from bytebrew.base.http_client.client import Http
from bytebrew.base.secrets import Secrets
from bytebrew.base.settings import Core
from bytebrew.contract.events import MessageDelta, Thinking
from bytebrew.contract.messages import Attachment, Message, ModelRequest, Spent, Stop, Usage
from bytebrew.contract.provider import Target
from bytebrew.conversation.model_calls import ELSEWHERE, Models, Price
from bytebrew.testing import ScriptedProvider, Step, chat, providing, scripted_schema, served_engine
from tests.stored import ON_POSTGRESQL

ASKED = ModelRequest(model_name="", base_url="", messages=(Message("user", "hi"),), max_tokens=7)
CODES = sorted({*ELSEWHERE, "model_auth", "model_bad_request", "model_context_too_long", "model_error"})
DOWN = ProviderError("down", code="model_unavailable")
PNG = Attachment("image/png", "iVBORw0KGgo=")


class First(ScriptedProvider):
    """The vendor of the model that is asked."""

    type = "first"


class Second(ScriptedProvider):
    """The vendor of the model that may take its place."""

    type = "second"


def said(word: str, *more: Step) -> list[Step]:
    return [MessageDelta(content=word), *more]


FIRST = Target(name="one", type="first", model_name="m1")
SECOND = Target(name="two", type="second", model_name="m2")

Make = Callable[..., Models]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    http = Http(Core())
    secrets = Secrets.load(tmp_path / "secrets.key")

    def of(*providers: ScriptedProvider, prices: Mapping[str, Price] | None = None) -> Models:
        return Models({provider.type: provider for provider in providers}, secrets, prices or {}, http, retries=0)

    yield of
    await http.aclose()


async def told(models: Models, *targets: Target, asked: ModelRequest = ASKED) -> list[Any]:
    """All that comes of asking the first target with the others as its fallback, the failure at the end included.

    Of what was spent it has the model and the tokens, if there are any.
    """
    found: list[Any] = []
    try:
        async with aclosing(models.answer(models.bind(targets[0], targets[1:]), asked)) as events:
            async for event in events:
                if not isinstance(event, Spent):
                    found.append(event)
                elif event.usage != Usage():
                    found.append(Spent(event.model, event.usage))
    except ProviderError as error:
        found.append(error.code)
    return found


# In whose words


async def test_a_model_is_asked_under_its_own_name_address_and_key(make: Make) -> None:
    provider = First(said("hi"))
    models = make(provider)
    sealed = models._secrets.seal("sk-one")
    target = Target(name="one", type="first", model_name="m1", base_url="http://a.test/", sealed_key=sealed)
    assert await told(models, target) == [MessageDelta(content="hi"), Stop()]
    [request] = provider.requests
    assert (request.model_name, request.base_url, request.api_key) == ("m1", "http://a.test", "sk-one")
    assert (request.messages, request.max_tokens) == (ASKED.messages, 7)


async def test_a_model_whose_plugin_is_gone_cannot_be_called(make: Make) -> None:
    with pytest.raises(Unprocessable, match="'one' is of type 'first', for which no plugin is loaded") as refused:
        make(Second(said("hi"))).bind(FIRST)
    assert refused.value.code == "provider_missing"


# Fallback


@pytest.mark.parametrize("code", CODES)
async def test_another_model_answers_where_the_error_says_nothing_against_request_or_key(code: str, make: Make) -> None:
    first, second = First([ProviderError("no", code=code)]), Second(said("hi"))
    taken_over = code in ELSEWHERE
    expected = [MessageDelta(content="hi"), Stop()] if taken_over else [code]
    assert await told(make(first, second), FIRST, SECOND) == expected
    assert [request.model_name for request in second.requests] == (["m2"] if taken_over else [])


def test_the_errors_after_which_another_may_answer() -> None:
    assert sorted(ELSEWHERE) == ["model_overloaded", "model_rate_limited", "model_timeout", "model_unavailable"]


@pytest.mark.parametrize("begun", [MessageDelta(content="Half"), Thinking(content="Hm"), Usage(1, 1)], ids=type)
async def test_no_other_model_answers_once_the_answer_has_begun(begun: Step, make: Make) -> None:
    second = Second(said("hi"))
    assert (await told(make(First([begun, DOWN]), second), FIRST, SECOND))[1:] == ["model_unavailable"]
    assert second.requests == []


async def test_fallbacks_are_asked_in_order_and_the_first_failure_is_told(make: Make) -> None:
    first = First([ProviderError("busy", code="model_overloaded")])
    second = Second([DOWN], said("at last"), [DOWN])
    models = make(first, second)
    third = Target(name="three", type="second", model_name="m3")
    assert await told(models, FIRST, SECOND, third) == [MessageDelta(content="at last"), Stop()]
    assert [request.model_name for request in second.requests] == ["m2", "m3"]
    assert await told(models, FIRST, SECOND, third) == ["model_overloaded"]


async def test_a_fallback_that_cannot_see_what_is_attached_is_passed_over(make: Make) -> None:
    second = Second(said("hi"))
    asked = ModelRequest(model_name="", base_url="", messages=(Message("user", "Look", attachments=(PNG,)),))
    assert await told(make(First([DOWN]), second), FIRST, SECOND, asked=asked) == ["model_unavailable"]
    assert second.requests == []


async def test_a_fallback_whose_key_is_refused_makes_way_for_the_next(make: Make) -> None:
    second = Second([ProviderError("no", code="model_auth")], said("hi"), [ProviderError("no", code="model_auth")])
    models = make(First([DOWN]), second)
    third = Target(name="three", type="second", model_name="m3")
    assert await told(models, FIRST, SECOND, third) == [MessageDelta(content="hi"), Stop()]
    assert await told(models, FIRST, SECOND) == ["model_unavailable"]


async def test_a_fallback_that_cannot_be_called_costs_the_model_nothing(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    gone = Target(name="gone", type="nowhere", model_name="m3")
    locked = Target(name="locked", type="second", model_name="m4", sealed_key=b"of another key")
    models = make(First(said("hi"), [DOWN]), Second(said("in its place")))
    assert await told(models, FIRST, gone, locked) == [MessageDelta(content="hi"), Stop()]
    assert await told(models, FIRST, gone, locked, SECOND) == [MessageDelta(content="in its place"), Stop()]
    words = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert [one for one in words if "cannot" in one] == [
        f"model {name} cannot be a fallback" for name in ("gone", "locked") * 2
    ]


async def test_a_failure_that_a_fallback_covers_is_logged(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    await told(make(First([DOWN]), Second(said("hi"))), FIRST, SECOND)
    assert [record.getMessage() for record in caplog.records] == ["model one failed before its first token: down"]


# The breaker


@pytest.mark.parametrize("code", CODES)
async def test_five_failures_of_the_vendor_in_a_row_leave_it_alone(code: str, make: Make) -> None:
    first = First([ProviderError("no", code=code)])
    models = make(first)
    for _ in range(7):
        await told(models, FIRST)
    broken = code in ELSEWHERE - {"model_rate_limited"}
    assert len(first.requests) == (5 if broken else 7)
    assert await told(models, FIRST) == ["model_unavailable" if broken else code]


async def test_while_it_is_left_alone_its_fallback_answers_at_once(make: Make) -> None:
    first, second = First([DOWN]), Second(said("hi"))
    models = make(first, second)
    for _ in range(8):
        assert await told(models, FIRST, SECOND) == [MessageDelta(content="hi"), Stop()]
    assert (len(first.requests), len(second.requests)) == (5, 8)


async def test_a_success_in_between_begins_the_count_anew(make: Make) -> None:
    first = First(*([DOWN], [DOWN], [DOWN], [DOWN], said("hi")) * 3)
    models = make(first)
    for _ in range(15):
        await told(models, FIRST)
    assert len(first.requests) == 15


def half_open(models: Models) -> Breaker:
    """A breaker of model `one` that has opened and waited."""
    breaker = models.breakers["one"] = Breaker(1, 60, 0)
    breaker.failed()
    assert breaker.state == "half_open"
    return breaker


async def test_after_the_wait_one_call_tries_while_the_others_are_refused(make: Make) -> None:
    first = First(said("hi"))
    models = make(first)
    breaker = half_open(models)
    async with aclosing(models.answer(models.bind(FIRST), ASKED)) as probe:
        await anext(probe)
        assert await told(models, FIRST) == ["model_unavailable"]
        assert len(first.requests) == 1
        assert [event async for event in probe][-1] == Stop()
    assert breaker.state == "closed"
    assert await told(models, FIRST) == [MessageDelta(content="hi"), Stop()]


@pytest.mark.parametrize("left", [True, False], ids=["by its client", "by an error that tells nothing of the vendor"])
async def test_a_try_that_is_left_is_given_to_the_next(left: bool, make: Make) -> None:
    models = make(First(said("hi") if left else [ProviderError("no", code="model_auth")], said("hi")))
    breaker = half_open(models)
    if left:
        async with aclosing(models.answer(models.bind(FIRST), ASKED)) as probe:
            await anext(probe)
    else:
        assert await told(models, FIRST) == ["model_auth"]
    assert breaker.state == "half_open"
    assert await told(models, FIRST) == [MessageDelta(content="hi"), Stop()]


async def test_a_call_from_before_it_opened_gives_no_further_try_away_by_leaving(make: Make) -> None:
    models = make(First(said("hi")))
    breaker = models.breakers["one"] = Breaker(1, 60, 0)
    async with aclosing(models.answer(models.bind(FIRST), ASKED)) as old:
        await anext(old)
        breaker.failed()
        async with aclosing(models.answer(models.bind(FIRST), ASKED)) as probe:
            await anext(probe)
            await old.aclose()
            assert await told(models, FIRST) == ["model_unavailable"]


async def test_what_fails_with_ones_own_key_is_held_against_nobody(make: Make) -> None:
    first = First([DOWN])
    models = make(first)
    for n in range(7):
        with pytest.raises(ProviderError, match="down"):
            async with aclosing(models.answer(models.bind(FIRST, key=f"sk-{n}"), ASKED)) as events:
                await anext(events)
    assert (len(first.requests), models.breakers) == (7, {})


async def fail(client: httpx.AsyncClient, times: int) -> None:
    for _ in range(times):
        assert '"code":"model_unavailable"' in (await chat(client, "test", "hi"))[-1].data


@pytest.mark.parametrize("change", ["put", "recreate"])
async def test_a_model_that_is_changed_or_made_anew_is_asked_again(change: str) -> None:
    provider = ScriptedProvider([DOWN])
    async with served_engine(providing(provider)) as (running, client):
        await scripted_schema(running)
        asked = -1
        while asked < len(provider.requests):  # on PostgreSQL a node also follows its own change, and asks again
            asked = len(provider.requests)
            await fail(client, 7)
        assert asked == 5 or (ON_POSTGRESQL and asked <= 10)
        if change == "put":
            answer = await client.put("/api/v1/models/test", json={"api_key": "sk-new"})
        else:
            await client.patch("/api/v1/agents/test", json={"model": "demo"})
            assert (await client.delete("/api/v1/models/test")).status_code == 204
            new = {"name": "test", "type": "scripted", "model_name": "script"}
            answer = await client.post("/api/v1/models", json=new)
            await client.patch("/api/v1/agents/test", json={"model": "test"})
        assert answer.is_success
        await fail(client, 1)
        assert len(provider.requests) == asked + 1


# What it costs


@pytest.mark.parametrize(
    ("own", "catalog", "cost"),
    [
        ((3.0, 6.0), None, 120.0),
        ((3.0, 6.0), Price(input=1, output=1), 120.0),
        ((0.0, 0.0), Price(input=1, output=1), 0.0),
        ((3.0, None), Price(input=1, output=2), 40.0),
        ((None, None), Price(input=1, output=2, cached=0.25), 32.5),
        ((None, None), None, None),
    ],
)
async def test_tokens_cost_what_the_model_or_else_the_catalog_says(
    own: tuple[float | None, float | None], catalog: Price | None, cost: float | None, make: Make
) -> None:
    provider = First(said("hi", Usage(20_000_000, 10_000_000, 10_000_000, 5_000_000)))
    models = make(provider, prices={"m1": catalog} if catalog else {})
    target = Target(name="one", type="first", model_name="m1", pricing_input=own[0], pricing_output=own[1])
    expected = Spent("one", Usage(20_000_000, 10_000_000, 10_000_000, 5_000_000, cost_usd=cost))
    assert await told(models, target) == [MessageDelta(content="hi"), expected, Stop()]


async def test_a_call_is_timed_under_the_vendors_own_names_also_where_no_tokens_are_counted(make: Make) -> None:
    models = make(First(said("hi")))
    before = time.time()
    async with aclosing(models.answer(models.bind(FIRST), ASKED)) as events:
        [spent] = [event async for event in events if isinstance(event, Spent)]
    assert (spent.model, spent.provider, spent.model_name, spent.usage) == ("one", "first", "m1", Usage())
    assert before <= spent.started_at <= spent.finished_at <= time.time()


async def test_the_model_that_answered_is_the_one_that_is_paid(make: Make) -> None:
    prices = {"m1": Price(input=100, output=100), "m2": Price(input=1, output=1)}
    models = make(First([DOWN]), Second(said("hi", Usage(1_000_000, 1_000_000))), prices=prices)
    assert Spent("two", Usage(1_000_000, 1_000_000, cost_usd=2)) in await told(models, FIRST, SECOND)
