"""Any schedule of reservations, settlements and losses against a model that is a dictionary."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from bytebrew_budgets import store
from bytebrew_budgets.definition import NewBudget, Rate
from bytebrew_budgets.store import Bound, Full, Held
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from bytebrew import Connection
from tests.stored import scratch

CAPS = {"all": 40_000, "each": 9_000}
WINDOWS = ("2027-01-01T00:00:00Z", "2027-01-01T01:00:00Z")
RATE = Rate(2, 3)


@contextmanager
def database() -> Iterator[Connection]:
    """The plugin's tables, with a budget of all and one of each token."""
    with scratch() as conn:
        for name, cap in CAPS.items():
            new = NewBudget(name=name, per="all" if name == "all" else "token", tokens=cap, window="hour")
            store.create(conn, new, lambda conn, budget: budget)
        yield conn


class Schedule(RuleBasedStateMachine):
    """Calls of two tokens in two windows; the model has what each key has used and holds."""

    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.opened = ExitStack()

    def teardown(self) -> None:
        self.opened.close()

    @initialize()
    def begin(self) -> None:
        self.conn = self.opened.enter_context(database())
        self.ids = {one.budget.name: one.id for one in store.list_all(self.conn)}
        self.calls = 0
        self.used: dict[tuple[str, str, str], int] = defaultdict(int)
        self.reserved: dict[str, list[tuple[tuple[str, str, str], int]]] = {}
        self.excess = 0

    def bounds(self, token: str, starts: str) -> dict[Bound, Rate]:
        keys = {"all": "", "each": token}
        return {Bound(self.ids[name], name, "tokens", key, starts): RATE for name, key in keys.items()}

    def left(self, place: tuple[str, str, str]) -> int:
        held = sum(amount for parts in self.reserved.values() for where, amount in parts if where == place)
        return CAPS[place[0]] - self.used[place] - held

    @rule(
        target=held,
        token=st.sampled_from(["token:a", "token:b"]),
        starts=st.sampled_from(WINDOWS),
        input_tokens=st.integers(0, 3000),
        max_tokens=st.integers(1, 4000),
    )
    def reserve(self, token: str, starts: str, input_tokens: int, max_tokens: int) -> str:
        self.calls += 1
        call, bounds = f"call {self.calls}", self.bounds(token, starts)
        places = [(bound.name, bound.key, starts) for bound in bounds]
        fits = min((self.left(place) - input_tokens * RATE.input) // RATE.output for place in places)
        found = store.hold(self.conn, call, "turn", bounds, input_tokens, max_tokens)
        if fits < min(max_tokens, store.LEAST_OUTPUT):
            assert isinstance(found, Full)
            return call
        assert isinstance(found, Held)
        assert found.max_tokens == min(max_tokens, fits)
        amount = input_tokens * RATE.input + found.max_tokens * RATE.output
        self.reserved[call] = [(place, amount) for place in places]
        return call

    @rule(call=consumes(held), part=st.floats(0, 1))
    def settle(self, call: str, part: float) -> None:
        self.count(call, lambda amount: int(part * amount))

    @rule(call=consumes(held), more=st.integers(1, 20_000))
    def settle_more_than_was_reserved(self, call: str, more: int) -> None:
        self.excess += more if call in self.reserved else 0
        self.count(call, lambda amount: amount + more)

    @rule(call=consumes(held))
    def settle_without_a_report(self, call: str) -> None:
        self.count(call, None)

    @rule(call=consumes(held))
    def settle_twice(self, call: str) -> None:
        self.count(call, lambda amount: amount // 2)
        for name in CAPS:
            store.settle(self.conn, call, Bound(self.ids[name], name, "tokens", "", WINDOWS[0]), 10**6)

    @rule(call=consumes(held))
    def release(self, call: str) -> None:
        store.release(self.conn, call)
        self.reserved.pop(call, None)

    @rule()
    def kill(self) -> None:
        store.settle_lost(self.conn)
        for parts in self.reserved.values():
            for place, amount in parts:
                self.used[place] += amount
        self.reserved.clear()

    def count(self, call: str, cost: Any) -> None:
        for place, amount in self.reserved.pop(call, []):
            name, key, starts = place
            spent = cost(amount) if cost else None
            store.settle(self.conn, call, Bound(self.ids[name], name, "tokens", key, starts), spent)
            self.used[place] += amount if spent is None else spent

    @invariant()
    def agrees(self) -> None:
        rows = self.conn.execute(
            """select b.name, s.key, s.starts, s.used, s.reserved from budgets_spent s
            join budgets b on b.id = s.budget"""
        ).fetchall()
        for name, key, starts, used, reserved in rows:
            place = (name, key, starts)
            assert used == self.used[place]
            assert CAPS[name] - used - reserved == self.left(place)
            assert used + reserved <= CAPS[name] + self.excess
        held = self.conn.execute("select coalesce(sum(amount), 0) from budgets_reserved").fetchone()[0]
        assert held == sum(amount for parts in self.reserved.values() for _, amount in parts)


@pytest.mark.timeout(180)
def test_any_schedule_of_reservations_keeps_to_the_cap() -> None:
    run_state_machine_as_test(Schedule)


@given(
    budgets=st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4),
    input_tokens=st.integers(0, 400),
    max_tokens=st.integers(1, 3000),
)
def test_what_is_reserved_fits_into_every_budget(
    budgets: list[tuple[int, int, int]], input_tokens: int, max_tokens: int
) -> None:
    with database() as conn:
        bounds = {}
        for n, (cap, input_rate, output_rate) in enumerate(budgets):
            new = NewBudget(name=f"b{n}", tokens=cap + 1, window="hour")
            made = store.create(conn, new, lambda conn, budget: budget)
            bounds[Bound(made.id, made.budget.name, "tokens", "", WINDOWS[0])] = Rate(input_rate, output_rate)
        found = store.hold(conn, "call", "turn", bounds, input_tokens, max_tokens)
        rows = conn.execute(
            "select b.cap, s.reserved from budgets_spent s join budgets b on b.id = s.budget"
        ).fetchall()
        if isinstance(found, Full):
            assert not rows
        else:
            assert len(rows) == len(budgets)
            assert all(reserved <= cap for cap, reserved in rows)
            assert 1 <= found.max_tokens <= max_tokens
