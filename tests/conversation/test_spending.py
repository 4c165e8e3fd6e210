"""What a model call may cost is known before it is sent, and never too little in practice."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from bytebrew import Attachment, Connection, Message, ModelRequest, ProviderError, Reservation, SpendGuard, ToolSpec
from bytebrew.base.errors import StorageError
from bytebrew.contract.auth import Actor
from bytebrew.contract.governance.spending import Payer, PlannedCall
from bytebrew.conversation.model_calls import BoundModel, Price
from bytebrew.conversation.spending import MESSAGE_TOKENS, most_input_tokens, payer_of, plan, reserved
from bytebrew.store.turns import NewTurn, Unsaved
from bytebrew.testing import ScriptedProvider, plugin, providing, scripted_schema, served_engine

REQUEST = ModelRequest(model_name="", base_url="", max_tokens=50)
MODEL = BoundModel(name="m", provider=ScriptedProvider([]), base=ModelRequest(model_name="vendor-m", base_url=""))


def new_turn(subject: str = "ada") -> NewTurn:
    """A turn of a subject."""
    actor = Actor(subject=subject, name=subject, kind="user", scopes=frozenset())
    ids: dict[str, Any] = {"id": "turn_1", "session_id": "s", "schema": "sales", "agent": "clerk"}
    return NewTurn(**ids, actor=actor, owner=subject, user_sub="", message="hi", fresh=True, begins=True)


class Held(Reservation):
    """Remembers what became of it."""

    def __init__(self) -> None:
        self.ends: list[str] = []

    def settle(self, conn: Connection, spent: Any) -> None:
        self.ends.append(f"settled {len(spent)}")

    def release(self, conn: Connection) -> None:
        self.ends.append("released")


class Holding(SpendGuard):
    """Holds everything."""

    def __init__(self) -> None:
        self.held = Held()

    async def reserve(self, payer: Payer, call: PlannedCall) -> Reservation:
        return self.held


@pytest.mark.parametrize("text", ["The quick brown fox", "\u654f\u6377\u7684\u68d5\u8272", "0123456789" * 9])
def test_a_text_has_a_token_for_each_two_bytes_at_the_most(text: str) -> None:
    sent = ModelRequest(model_name="", base_url="", messages=(Message("user", text),))
    assert most_input_tokens(sent) - most_input_tokens(REQUEST) == MESSAGE_TOKENS + (len(text.encode()) + 1) // 2


def test_tools_and_attachments_and_the_system_prompt_are_part_of_it() -> None:
    bare = most_input_tokens(REQUEST)
    files = (Attachment("image/png", data="a" * 24_000),)
    for more in (
        {"system": "x" * 2000},
        {"tools": (ToolSpec("add", "Adds", {"type": "object"}),)},
        {"messages": (Message("user", "", attachments=files),)},
    ):
        assert most_input_tokens(ModelRequest(model_name="", base_url="", **more)) >= bare + 1000


def test_the_highest_prices_of_all_candidates_are_planned_with() -> None:
    cheap, dear = Price(input=1, output=9), Price(input=2, output=3, cache_write=2.5)
    fallback = BoundModel(name="f", provider=MODEL.provider, base=MODEL.base, price=dear)
    planned = plan(
        BoundModel(name="m", provider=MODEL.provider, base=MODEL.base, price=cheap, fallback=(fallback,)), REQUEST
    )
    assert (planned.models, planned.input_price, planned.output_price) == (("m", "f"), 2.5, 9)
    unknown = BoundModel(name="m", provider=MODEL.provider, base=MODEL.base, price=cheap, fallback=(MODEL,))
    assert (plan(unknown, REQUEST).input_price, plan(unknown, REQUEST).output_price) == (None, None)


def test_a_visitor_is_counted_as_the_token_of_the_page() -> None:
    payer = payer_of(new_turn("token:tok_1:visitor:v1"))
    assert (payer.subject, payer.token) == ("token:tok_1", "token:tok_1")
    assert payer_of(new_turn()).token is None


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        (ProviderError("refused"), ["released"]),
        (StorageError("the disk is full"), ["settled 0"]),
        (None, ["settled 0"]),
    ],
    ids=["fails before its first byte", "is broken off by another fault", "ends"],
)
async def test_a_reservation_is_settled_or_released(error: Exception | None, ends: list[str]) -> None:
    guard, unsaved = Holding(), Unsaved("clerk", "ada", "sales")
    connection: Any = None

    async def write(work: Callable[[Connection], None]) -> None:
        work(connection)

    try:
        async with reserved([guard], new_turn(), MODEL, REQUEST, unsaved, lambda event: None, write):
            if error is not None:
                raise error
    except (ProviderError, StorageError) as raised:
        assert raised is error
    for settle in unsaved.settlements:
        settle(connection)
    assert guard.held.ends == ends


async def test_a_release_that_the_database_refuses_goes_with_what_the_turn_stores_next() -> None:
    guard, unsaved = Holding(), Unsaved("clerk", "ada", "sales")
    connection: Any = None

    async def write(work: Callable[[Connection], None]) -> None:
        raise StorageError("the disk is full")

    with pytest.raises(ProviderError):
        async with reserved([guard], new_turn(), MODEL, REQUEST, unsaved, lambda event: None, write):
            raise ProviderError("refused")
    assert guard.held.ends == []
    [settle] = unsaved.settlements
    settle(connection)
    assert guard.held.ends == ["released"]


async def test_a_turn_whose_admission_outlasts_the_beginning_of_a_stop_is_not_stored() -> None:
    asked, gate = asyncio.Event(), asyncio.Event()

    class Slow(Holding):
        async def admit(self, payer: Payer) -> None:
            asked.set()
            await gate.wait()

    guards = plugin(register_spend_guards=lambda register, engine: register(Slow()))
    async with served_engine(providing(ScriptedProvider([])), guards) as (engine, client):
        await scripted_schema(engine)
        chat = client.post("/api/v1/schemas/test/chat", json={"message": "hi", "stream": False})
        sent = asyncio.create_task(chat)
        await asked.wait()
        await engine.runner.drain(0)
        gate.set()
        assert (await sent).status_code == 503
        assert await engine.db.read(lambda conn: conn.execute("select count(*) from turns").fetchone()[0]) == 0
