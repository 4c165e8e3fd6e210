"""Budgets: the API's structs, merging of patches, validation, and amounts as integers."""

import math
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict, replace

from bytebrew import Detail, InvalidRequest, Name, Usage

from .windows import Window

Per = Literal["all", "token", "subject", "schema", "agent"]
Unit = Literal["usd", "tokens"]
Dollars = Annotated[float, Meta(gt=0, le=100_000_000, description="US dollars")]
Tokens = Annotated[int, Meta(gt=0, le=10**15)]
Soft = Annotated[float, Meta(gt=0, le=1)]
Only = Annotated[str, Meta(max_length=255)]
DOLLAR = 10**10
"""Units per dollar: amounts are integers, so that a sum does not depend on the order of its parts."""


class BudgetPatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Changes to a budget: what is left out stays.

    With another `per`, `only` or `window`, or with dollars in place of tokens, it begins to count anew.
    """

    name: Name | UnsetType = UNSET
    per: Per | UnsetType = UNSET
    only: Only | UnsetType = UNSET
    usd: Dollars | UnsetType | None = UNSET
    tokens: Tokens | UnsetType | None = UNSET
    window: Window | UnsetType = UNSET
    soft: Soft | UnsetType = UNSET


class NewBudget(BudgetPatch, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A budget to create: the most that model calls may cost in a window, in `usd` or in `tokens` of input and output.

    It is of the whole engine, or with `per` of each token, subject, schema or agent; `only` restricts it to one of
    them, a token by its name. Windows are the hours, days and months of UTC. From the part `soft` on it warns.
    """

    name: Name
    window: Window


class Budget(Struct, frozen=True, kw_only=True):
    """A budget as it is stored."""

    name: Name
    per: Per = "all"
    only: Only = ""
    usd: Dollars | None = None
    tokens: Tokens | None = None
    window: Window
    soft: Soft = 0.8

    @property
    def unit(self) -> Unit:
        """What it is in."""
        return "usd" if self.usd is not None else "tokens"

    @property
    def cap(self) -> int:
        """The most, as an amount."""
        return self.tokens or 0 if self.usd is None else max(1, math.floor(self.usd * DOLLAR))

    @property
    def counts(self) -> tuple[Per, str, Window, Unit]:
        """What its counts depend on."""
        return self.per, self.only, self.window, self.unit


class Rate(Struct, frozen=True):
    """The amount of one token of input and of one of output."""

    input: int
    output: int


TOKEN_RATE = Rate(1, 1)


def dollar_rate(input_price: float, output_price: float) -> Rate:
    """The rate of prices in US dollars per million tokens, rounded up."""
    per_token = DOLLAR // 1_000_000
    return Rate(math.ceil(input_price * per_token), math.ceil(output_price * per_token))


def amount(unit: Unit, usage: Usage) -> int:
    """What a call has cost; nothing in dollars if its price is not known."""
    if unit == "tokens":
        return usage.input_tokens + usage.output_tokens
    return math.ceil((usage.cost_usd or 0.0) * DOLLAR)


def shown(unit: Unit, amount: int) -> int | float:
    """An amount in dollars or tokens."""
    return amount if unit == "tokens" else amount / DOLLAR


def merged(old: Budget, patch: BudgetPatch) -> Budget:
    """The budget with the patch merged in; InvalidRequest with every fault of the result."""
    changes = {name: value for name, value in asdict(patch).items() if value is not UNSET}
    for unit, other in (("usd", "tokens"), ("tokens", "usd")):
        if changes.get(unit) is not None:
            changes.setdefault(other, None)
    if "per" in changes and changes["per"] != old.per:
        changes.setdefault("only", "")
    budget = replace(old, **changes)
    faults = []
    if budget.name != old.name:
        faults.append(Detail("$.name", "is fixed; create another budget instead"))
    if (budget.usd is None) is (budget.tokens is None):
        faults.append(Detail("$.usd", "send either usd or tokens"))
    if budget.only and budget.per == "all":
        faults.append(Detail("$.only", "send per as well: token, subject, schema or agent"))
    if faults:
        message = "; ".join(f"{one.path}: {one.message}" for one in faults)
        raise InvalidRequest(f"Budget '{budget.name}': {message}", details=faults)
    return budget
