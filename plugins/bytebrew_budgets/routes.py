"""Budgets over REST, with what is used, reserved and left."""

from collections.abc import Callable, Iterator
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

from bytebrew import AFTER, OFFSET, Connection, Live, Page, Parameter, Request, Route, offset_of, page_of, positive

from . import store
from .definition import Budget, BudgetPatch, NewBudget, shown
from .guard import Budgets
from .store import Standing, Stored

Amount = int | float
_EXAMPLE = {"name": "per-subject", "per": "subject", "usd": 5, "window": "month"}
MOST = 1000


class BudgetAnswer(Budget, frozen=True, kw_only=True):
    """A budget as it is answered, with the standing in the window that ends at `ends_at`, in dollars or tokens.

    `reserved` is held for calls that are running; `over` is what calls have cost beyond the budget, because their
    vendors counted more input than was reserved. Of a budget with many keys it is the standing of the one that is
    nearest to the cap, which is the `key`; `GET /budgets/{name}/usage` has all.
    """

    key: Live[str]
    used: Live[Amount]
    reserved: Live[Amount]
    left: Live[Amount]
    over: Live[Amount]
    starts_at: Live[str]
    ends_at: Live[str]
    created_at: str
    updated_at: Live[str]


class BudgetUsage(Struct, frozen=True, kw_only=True):
    """Where a token, subject, schema or agent stands in the window; `name` is the name of a token."""

    key: str
    name: str
    used: Amount
    reserved: Amount
    left: Amount
    over: Amount
    ends_at: str


class Rest:
    """The routes of the budgets; changes take effect at once."""

    def __init__(self, budgets: Budgets) -> None:
        self.budgets = budgets

    async def list_budgets(self, request: Request[None]) -> list[BudgetAnswer]:
        """Every budget by name, with where it stands."""

        def read(conn: Connection) -> list[BudgetAnswer]:
            return [self._shown(conn, one) for one in store.list_all(conn)]

        return await request.engine.db.scan(read)

    async def get_budget(self, request: Request[None]) -> BudgetAnswer:
        """One budget, with where it stands."""

        def read(conn: Connection) -> BudgetAnswer:
            return self._shown(conn, store.get(conn, request.path["name"]))

        return await request.engine.db.scan(read)

    async def create_budget(self, request: Request[NewBudget]) -> BudgetAnswer:
        """A new budget, which counts what model calls cost from now on."""
        return await self._change(request, lambda conn: store.create(conn, request.body, self.budgets.resolved))

    async def update_budget(self, request: Request[BudgetPatch]) -> BudgetAnswer:
        """The budget with the fields that were sent."""
        return await self._change(
            request, lambda conn: store.change(conn, request.path["name"], request.body, self.budgets.resolved)
        )

    async def delete_budget(self, request: Request[None]) -> None:
        """Removes a budget and what it has counted."""

        def delete(conn: Connection) -> None:
            store.delete(conn, request.path["name"])
            request.record(conn)

        await self.budgets.change(delete)

    async def budget_usage(self, request: Request[None]) -> Page[BudgetUsage]:
        """The keys of a budget in its window, those nearest to the cap first."""
        limit, offset = positive(request.query.get("limit"), 50, MOST), offset_of(request.query)

        def read(conn: Connection) -> Page[BudgetUsage]:
            stored = store.get(conn, request.path["name"])
            starts, ends = self.budgets.window(stored.budget)
            rows, total = store.standings(conn, stored, starts, limit, offset)
            names = request.engine.subject_names(conn) if rows and stored.budget.per == "token" else {}
            shown = [
                BudgetUsage(key=one.key, name=names.get(one.key, ""), **_amounts(stored, one), ends_at=ends)
                for one in rows
            ]
            return page_of(shown, total, limit, offset)

        return await request.engine.db.scan(read)

    async def _change(self, request: Request[Any], work: Callable[[Connection], Stored]) -> BudgetAnswer:
        def change(conn: Connection) -> BudgetAnswer:
            budget = self._shown(conn, work(conn))
            request.record(conn, budget)
            return budget

        return await self.budgets.change(change)

    def _shown(self, conn: Connection, stored: Stored) -> BudgetAnswer:
        starts, ends = self.budgets.window(stored.budget)
        rows, _ = store.standings(conn, stored, starts, 1)
        nearest = rows[0] if rows else Standing(stored.budget.only, 0, 0, stored.budget.cap)
        return BudgetAnswer(
            **asdict(stored.budget),
            key=nearest.key,
            **_amounts(stored, nearest),
            starts_at=starts,
            ends_at=ends,
            created_at=stored.created_at,
            updated_at=stored.updated_at,
        )


def routes(budgets: Budgets) -> Iterator[Route]:
    """The routes of these budgets."""
    rest = Rest(budgets)
    everything, one = "/api/v1/budgets", "/api/v1/budgets/{name}"

    def route(method: Any, path: str, run: Any, summary: str, **more: Any) -> Route:
        return Route(method, path, "config", run, summary, **more)

    yield route("GET", everything, rest.list_budgets, "List budgets", answer=list[BudgetAnswer])
    new = {"body": NewBudget, "example": _EXAMPLE, "answer": BudgetAnswer, "status": 201, "idempotent": True}
    yield route("POST", everything, rest.create_budget, "Create a budget", **new, also={422: None})
    yield route("GET", one, rest.get_budget, "Get a budget", answer=BudgetAnswer)
    for method in ("PUT", "PATCH"):
        patch = {"body": BudgetPatch, "example": {"usd": 10, "soft": 0.9}, "answer": BudgetAnswer}
        yield route(method, one, rest.update_budget, "Update a budget", **patch, also={422: None})
    yield route("DELETE", one, rest.delete_budget, "Delete a budget", status=204)
    yield route(
        "GET",
        f"{one}/usage",
        rest.budget_usage,
        "List where the keys of a budget stand",
        query={
            "limit": Parameter(f"rows, 50 unless told, {MOST} at most", int | str),
            "offset": OFFSET,
            "after": AFTER,
        },
        answer=Page[BudgetUsage],
    )


def _amounts(stored: Stored, at: Standing) -> dict[str, Any]:
    unit = stored.budget.unit
    amounts = {"used": at.used, "reserved": at.reserved, "left": at.left, "over": at.over}
    return {name: shown(unit, amount) for name, amount in amounts.items()}
