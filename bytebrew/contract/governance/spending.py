"""Guards of spending: asked before a turn begins and before each of its model calls, and settled with the usage."""

from collections.abc import Sequence

from msgspec import Struct

from bytebrew.contract.connection import Connection
from bytebrew.contract.events import Notice
from bytebrew.contract.messages import Spent


class Payer(Struct, frozen=True, kw_only=True):
    """Who a turn's model calls are counted for.

    `subject` is the account that pays: for a visitor of a public page the page's token, which `token` is as well. It is
    None if no API token pays. `root_turn_id` is the turn of a person or a task that a spawned agent's turn belongs to.
    With `own_key` the caller's own key pays for the turn's model.
    """

    subject: str
    token: str | None
    schema: str
    agent: str
    session_id: str
    turn_id: str
    root_turn_id: str
    own_key: bool = False


class PlannedCall(Struct, frozen=True, kw_only=True):
    """A model call before it is sent: upper bounds of what it may cost, over the model and its fallback models.

    `models` are their names, `model_names` those at their vendors. `input_tokens` is an estimate that real requests
    stay below. `max_tokens` limits the answer, None is no limit. Prices are US dollars per million tokens, both None if
    one of the models has no price. With `own_key` the caller's own key pays.
    """

    models: tuple[str, ...]
    model_names: tuple[str, ...]
    input_tokens: int
    max_tokens: int | None
    input_price: float | None
    output_price: float | None
    own_key: bool


class Reservation:
    """What a guard holds for one model call, until it is settled or released.

    `max_tokens` is a smaller limit of the answer, None leaves that of the call. `notices` go into the turn's stream.
    """

    max_tokens: int | None = None
    notices: Sequence[Notice] = ()

    def settle(self, conn: Connection, spent: Sequence[Spent]) -> None:
        """Counts the call in the transaction that stores its usage; it may run again if that is rolled back.

        `spent` is empty if the vendor may have charged for the call and reported no usage: it was interrupted, or its
        answer broke off.
        """
        raise NotImplementedError

    def release(self, conn: Connection) -> None:
        """Frees what is held, because the call was not sent or failed before the first byte of its answer.

        It runs in a transaction of its own, or in that of the turn's next record if the database refuses the first.
        """
        raise NotImplementedError


class SpendGuard:
    """Decides whether a turn may spend; its plugin may set `active` to False while it would allow everything."""

    active: bool = True

    async def admit(self, payer: Payer) -> None:
        """Raises to reject a turn before it begins; not asked for the turns of spawned agents."""

    async def reserve(self, payer: Payer, call: PlannedCall) -> Reservation | None:
        """Holds the most that a model call may cost, or raises so that it is not sent; None holds nothing.

        Every call passes: of steps, summaries and repairs, in the turns of people, tasks and spawned agents.
        """
        raise NotImplementedError
