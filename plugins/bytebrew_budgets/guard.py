"""The guard that reserves what a model call may cost in every budget that binds it."""

import asyncio
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, TypeVar

from msgspec import Meta, Struct
from msgspec.structs import replace

from bytebrew import (
    BudgetExceeded,
    Connection,
    Detail,
    Engine,
    Notice,
    Notification,
    Payer,
    PlannedCall,
    Reservation,
    Sample,
    SpendGuard,
    Spent,
    StateKey,
    Unprocessable,
    new_uuid,
)

from . import store
from .definition import TOKEN_RATE, Budget, Rate, amount, dollar_rate, shown
from .store import Bound, Full, Near, Standing, Stored
from .windows import window_at, written

T = TypeVar("T")
UNKNOWN_OUTPUT = 4096
"""The `max_tokens` of a call whose agent has none, of a model that is not in the catalog: most take so many."""
LOST_SECONDS = 10.0
"""Pause between two looks at what nodes had reserved that are no more."""
BUSY_SECONDS = 5
"""The Retry-After of a call that would fit if those that are running cost less than is reserved for them."""


class BudgetSettings(Struct, frozen=True, kw_only=True):
    """The plugin's settings."""

    budget_call_tokens: Annotated[
        int, Meta(ge=256, description="output limit of a model call that a budget binds, where its agent has none")
    ] = 16_384


class Budgets(SpendGuard):
    """The stored budgets as they bind calls; `clock` is the time in UTC.

    The amounts are in the database alone. Which budgets there are is kept in memory and replaced with every change.
    """

    active = False

    def __init__(self, engine: Engine, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.engine = engine
        self.clock = clock
        self.refused: dict[str, int] = {}
        self._stored: list[Stored] = []

    async def load(self) -> None:
        """Loads the budgets; counts in full what an engine that was killed had reserved."""
        self.use(await self.engine.db.read(store.list_all))
        if self.active:
            await self.engine.db.write(self._settle_lost)
        if self.engine.node.id is not None:
            self.engine.duties.add("budgets", self._settle_forever, lambda: None)

    def _settle_lost(self, conn: Connection) -> None:
        for near in store.settle_lost(conn):
            self.publish(conn, near)

    async def _settle_forever(self) -> None:
        """Counts what nodes had reserved that have ended since."""
        while True:
            if self.active:
                await self.engine.db.write(self._settle_lost)
            await asyncio.sleep(LOST_SECONDS)

    async def change(self, work: Callable[[Connection], T]) -> T:
        """Changes the stored budgets, then those in memory."""

        def both(conn: Connection) -> tuple[T, list[Stored]]:
            return work(conn), store.list_all(conn)

        result, stored = await self.engine.db.write(both)
        self.use(stored)
        return result

    def use(self, stored: Sequence[Stored]) -> None:
        """Has these budgets bind the calls from now on."""
        self._stored = [*stored]
        self.refused = {one.budget.name: self.refused.get(one.budget.name, 0) for one in stored}
        self.active = bool(stored)

    async def admit(self, payer: Payer) -> None:
        """Raises BudgetExceeded if nothing is left of a budget; one in dollars does not bind callers' own keys."""
        bounds = [bound for bound, _ in self._binding(payer) if not (payer.own_key and bound.unit == "usd")]
        if bounds and (full := await self.engine.db.read(store.full, bounds)):
            raise self._exceeded(full)

    async def reserve(self, payer: Payer, call: PlannedCall) -> "Held | None":
        """Holds the most that the call may cost, with a lower limit of its answer if that is what fits."""
        bounds = {bound: rate for bound, _ in self._binding(payer) if (rate := _rate(bound, call)) is not None}
        if not bounds:
            return None
        call_id, limit = new_uuid(), call.max_tokens or self._longest_answer(call)
        node = self.engine.node.id
        held = await self.engine.db.write(store.hold, call_id, payer.turn_id, bounds, call.input_tokens, limit, node)
        if isinstance(held, Full):
            raise self._exceeded(held)
        notices = tuple(self._notice(bound, standing) for bound, standing in held.near)
        return Held(self, call_id, held.bounds, held.max_tokens, notices)

    def publish(self, conn: Connection, near: Near) -> None:
        """Publishes that a budget has reached its soft limit."""
        bound, standing = near.bound, near.standing
        _, end = window_at(near.window, datetime.fromisoformat(bound.starts))
        data = {
            "schema": bound.key if near.per == "schema" else "",
            "url": f"/api/v1/budgets/{bound.name}",
            "budget": bound.name,
            "per": near.per,
            "key": bound.key,
            "unit": bound.unit,
            "used": shown(bound.unit, standing.used),
            "limit": shown(bound.unit, standing.cap),
            "ends_at": written(end),
        }
        self.engine.publish(conn, Notification("budget.near", bound.name, data))

    def samples(self) -> Iterator[Sample]:
        """Metrics of refused turns and calls by budget."""
        text = "Turns and model calls that a budget has refused."
        for name, count in self.refused.items():
            yield Sample("bytebrew_budget_refused_total", count, {"budget": name}, "counter", text)

    def resolved(self, conn: Connection, budget: Budget) -> Budget:
        """The budget with the subject of a token in place of its name; Unprocessable if there is no such token."""
        if budget.per != "token" or not budget.only or budget.only.startswith("token:"):
            return budget
        names = self.engine.subject_names(conn).items()
        found = [subject for subject, name in names if name == budget.only and subject.startswith("token:")]
        if len(found) == 1:
            return replace(budget, only=found[0])
        message = "is the name of no token" if not found else f"is the name of several: {', '.join(found)}"
        raise Unprocessable(f"only: '{budget.only}' {message}", details=[Detail("$.only", message)])

    def window(self, budget: Budget) -> tuple[str, str]:
        """The beginning and the end of a budget's window at this time."""
        begin, end = window_at(budget.window, self.clock())
        return written(begin), written(end)

    def _binding(self, payer: Payer) -> Iterator[tuple[Bound, Budget]]:
        """The budgets that bind a payer, and the key of each under which it counts."""
        for id, budget, *_ in self._stored:
            key = key_of(budget, payer)
            if key is not None and budget.only in ("", key):
                yield Bound(id, budget.name, budget.unit, key, self.window(budget)[0]), budget

    def _longest_answer(self, call: PlannedCall) -> int:
        catalog = self.engine.catalog
        known = [catalog[name].max_output if name in catalog else UNKNOWN_OUTPUT for name in call.model_names]
        return min(*known, self.engine.settings.of(BudgetSettings).budget_call_tokens)

    def _exceeded(self, full: Full) -> BudgetExceeded:
        name, standing = full.bound.name, full.standing
        budget = next((one.budget for one in self._stored if one.budget.name == name), None)
        self.refused[name] = self.refused.get(name, 0) + 1
        end = window_at(budget.window if budget else "hour", self.clock())[1]
        if standing.reserved and standing.used < standing.cap:
            message = f"What is left of the budget '{name}' is reserved for calls that are running; try again soon"
            return BudgetExceeded(message, headers={"Retry-After": str(BUSY_SECONDS)})
        wait = max(1, math.ceil((end - self.clock()).total_seconds()))
        message = f"The budget '{name}' has no room for this; it begins anew at {written(end)}"
        return BudgetExceeded(message, headers={"Retry-After": str(wait)})

    def _notice(self, bound: Bound, standing: Standing) -> Notice:
        message = f"{round(100 * standing.used / standing.cap)} % of the budget '{bound.name}' are used"
        return Notice(code="budget_near", message=message, names=(bound.name,))


class Held(Reservation):
    """What one call holds in the budgets that bind it."""

    def __init__(
        self, budgets: Budgets, call_id: str, bounds: Iterable[Bound], max_tokens: int, notices: tuple[Notice, ...]
    ) -> None:
        self._budgets = budgets
        self._call_id = call_id
        self._bounds = tuple(bounds)
        self.max_tokens = max_tokens
        self.notices = notices

    def settle(self, conn: Connection, spent: Sequence[Spent]) -> None:
        """Counts the reported usage; without one all that is held, as some vendors report nothing."""
        reported = [one.usage for one in spent if one.usage.input_tokens or one.usage.output_tokens]
        for bound in self._bounds:
            cost = sum(amount(bound.unit, usage) for usage in reported) if reported else None
            if near := store.settle(conn, self._call_id, bound, cost):
                self._budgets.publish(conn, near)

    def release(self, conn: Connection) -> None:
        """Frees what is held."""
        store.release(conn, self._call_id)


def key_of(budget: Budget, payer: Payer) -> str | None:
    """The key under which a payer counts in a budget; None if it does not bind the payer."""
    keys: Mapping[str, str | None] = {
        "all": "",
        "token": payer.token,
        "subject": payer.subject,
        "schema": payer.schema or None,
        "agent": payer.agent,
    }
    return keys[budget.per]


def _rate(bound: Bound, call: PlannedCall) -> Rate | None:
    """The rate of a call in the unit of a budget; None if the call costs nothing there."""
    if bound.unit == "tokens":
        return TOKEN_RATE
    if call.own_key:
        return None
    if call.input_price is None or call.output_price is None:
        message = (
            f"The budget '{bound.name}' is in dollars and a price is missing: set pricing_input and pricing_output "
            f"of {' and '.join(call.models)}, to 0 for a model that costs nothing"
        )
        raise Unprocessable(message, code="price_missing")
    rate = dollar_rate(call.input_price, call.output_price)
    return rate if rate.input or rate.output else None


BUDGETS = StateKey[Budgets]("budgets")
