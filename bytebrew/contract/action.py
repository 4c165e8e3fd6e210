"""An action: who changes what over the API, from what to what, and who was refused."""

from typing import Any

from msgspec import Struct

from bytebrew.contract.auth import Actor


class Action(Struct, frozen=True, kw_only=True):
    """What an actor did, or was refused (`auth.fail`, with the `reason`; the actor may then be ANYONE).

    `name` is such as `agent.update`, `resource` the method and the path. `before` and `after` are the thing as the API
    shows it, where it was one and the API does: without secrets, long texts cut, never a conversation.
    """

    moment: str
    actor: Actor
    name: str
    resource: str
    resource_type: str
    resource_id: str
    status: int
    client: str
    request_id: str
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    reason: str = ""
