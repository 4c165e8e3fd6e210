"""People: everything that is stored of one, and forgetting one."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import closing, suppress
from functools import partial
from typing import Any, Literal

from msgspec import Struct

from bytebrew.base.errors import InvalidRequest
from bytebrew.base.rolling_timeout import within
from bytebrew.contract.connection import Connection
from bytebrew.contract.governance.personal_data import names_of
from bytebrew.contract.route import Reply, Request, Route, Stream
from bytebrew.engine import Engine
from bytebrew.store.people import forgettings
from bytebrew.store.people.export import export
from bytebrew.store.people.forgettings import Forgetting

WAIT_SECONDS = 10.0
"""How long a request waits for its end before it is answered with 202."""
CHUNK = 256 * 1024
NOT_REACHED = (
    "backups and copies of the data folder that you made",
    "logs of the engine and of proxies before it",
    "what vendors of models and tools, receivers of callbacks and collectors of traces keep",
    "what the person wrote in sessions of others, and configuration",
)


class Forgotten(Struct, frozen=True, kw_only=True):
    """How far the request to forget a person is.

    `person` names the person in the audit. `counts` are the deleted or masked rows by kind of data. After `deleting`
    the rows is `erasing`, which writes the database anew without their bytes. `not_reached` is what you must see to
    yourself.
    """

    person: str
    status: Literal["deleting", "erasing", "done"]
    counts: Mapping[str, int]
    not_reached: tuple[str, ...] = NOT_REACHED


def _person(engine: Engine, request: Request[None]) -> tuple[str, str]:
    """The name in the path as it was sent, and the pseudonym: UUIDs in `request.path` are in lower case.

    Raises InvalidRequest without a name, as rows that are nobody's have an empty one.
    """
    sub = request.url_path.removeprefix("/api/v1/users/").removesuffix("/export")
    if not (name := names_of(sub)[0]):
        raise InvalidRequest("Name the person behind /users/, such as /api/v1/users/ann")
    return sub, engine.secrets.pseudonym(name)


async def forget_person(engine: Engine, request: Request[None]) -> Reply:
    """Deletes everything of a person, and masks the name in what must stay, such as the audit and sums of usage.

    The answer is 202 if that takes longer than 10 seconds: it goes on, over a restart too, and the same request waits
    for its end again. What the person begins meanwhile is deleted too.
    """
    sub, mask = _person(engine, request)
    end = engine.forgettings.end(mask)

    def begin(conn: Connection) -> Forgetting:
        begun = forgettings.begin(conn, mask, sub)
        request.record(conn, Reply(status=200))
        return begun

    state = await engine.db.write(begin)
    engine.duties.wake("forgettings")
    if engine.node.leads:
        await asyncio.wait([end], timeout=WAIT_SECONDS)
    else:
        with suppress(TimeoutError), within(WAIT_SECONDS):
            await engine.forgettings.follow(state)
    if end.done():
        return Reply(body=Forgotten(person=mask, status="done", counts=end.result().counts))
    state = next((one for one in await engine.db.read(forgettings.list_all) if one.mask == mask), state)
    status: Literal["deleting", "erasing"] = "deleting" if state.sub else "erasing"
    return Reply(body=Forgotten(person=mask, status=status, counts=state.counts), status=202)


async def export_person(engine: Engine, request: Request[None]) -> Stream:
    """Everything that is stored of a person, as one JSON document: in `data` a list of rows for each kind.

    Events are left out: they are what messages and tool calls say, in pieces.
    """
    sub, mask = _person(engine, request)
    kinds = engine.personal_data.values()
    file = await asyncio.to_thread(export, engine.db, engine.data_dir, kinds, sub, mask)

    async def chunks() -> AsyncGenerator[bytes, None]:
        with closing(file):
            yield b""
            while chunk := await asyncio.to_thread(file.read, CHUNK):
                yield chunk

    frames = chunks()
    await anext(frames)  # from here on its end closes the file
    try:
        await request.write(lambda conn: Reply(status=200))
    except BaseException:
        await frames.aclose()
        raise
    headers = {"content-type": "application/json", "content-disposition": 'attachment; filename="person.json"'}
    return Stream(frames=frames, headers=headers)


class Export(Struct, frozen=True, kw_only=True):
    """What is stored of a person: the rows by kind, such as `sessions`, `messages` or `memories`."""

    sub: str
    exported_at: str
    data: dict[str, list[dict[str, Any]]]


def routes(engine: Engine) -> tuple[Route, ...]:
    """The routes, bound to the engine; a name may have slashes, so that of the export comes first."""
    return (
        Route(
            "GET",
            "/api/v1/users/{sub:path}/export",
            "admin",
            partial(export_person, engine),
            "Export what is stored of a person",
            answer=Export,
            names_person=True,
            action="user.export",
        ),
        Route(
            "DELETE",
            "/api/v1/users/{sub:path}",
            "admin",
            partial(forget_person, engine),
            "Forget a person",
            answer=Forgotten,
            also={202: Forgotten},
            names_person=True,
            action="user.forget",
        ),
    )
