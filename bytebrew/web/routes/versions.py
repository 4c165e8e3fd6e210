"""Versions of the items of the configuration: agents, schemas, models, and those of every section of a plugin."""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial, wraps
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from bytebrew.base.errors import NotFound
from bytebrew.base.validation import same_json
from bytebrew.config.import_export import FieldChange, PreconditionFailed, managed_by, reconnect
from bytebrew.config.versions import RolledBack, keep, roll_back, versioned
from bytebrew.contract.configuration.config_section import ConfigSection, ManagedBy
from bytebrew.contract.connection import Connection
from bytebrew.contract.lists import AFTER, OFFSET, Page, number, offset_of, page_window
from bytebrew.contract.route import Parameter, Reply, Request, Route
from bytebrew.engine import Engine
from bytebrew.store.configuration import versions
from bytebrew.store.configuration.versions import Version, WholeVersion

Number = Annotated[int, Meta(ge=1, lt=10**12, description="the number of a version")]
Run = Callable[[Request[Any]], Awaitable[Any]]
_TAG = "the number of the item's newest version, for If-Match"
_IF_MATCH = "the ETag of the item: it is changed only if it is still of this version"
AGAINST = Parameter(
    "the number of another version, 0 for none; the one before unless told", Annotated[int, Meta(ge=0, lt=10**12)]
)


class VersionPage(Page[Version], frozen=True, kw_only=True):
    """A page of an item's versions, newest first; `next` is the `after` of the page behind.

    `managed_by` is where the configuration file that the engine loads has the item, null if it has not.
    """

    managed_by: ManagedBy | None


class Rollback(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The version whose content the item is to have again."""

    version: Number


class Difference(Struct, frozen=True, kw_only=True):
    """The fields that two versions do not share, with their values before and after, null where there is none."""

    before: int
    after: int
    changes: tuple[FieldChange, ...]


def section_of(engine: Engine, path: str) -> str:
    """The section of the configuration whose items the routes at a path change; "" for none."""
    sections = versioned(engine.sections).values()
    return next((one.key for one in sections if path == one.path or path.startswith(f"{one.path}/")), "")


def keep_versions(request: Request[Any], section: str, conn: Connection, answer: Any) -> None:
    """Stores versions of what a request has changed, in its transaction."""
    engine: Any = request.engine
    keep(conn, engine, engine.sections, request.actor, whole=(section,))


class ItemVersions:
    """The routes of the versions of a section's items."""

    def __init__(self, engine: Engine, section: ConfigSection, key: str, get: Route | None) -> None:
        self._engine, self._section, self._key, self._get = engine, section, key, get

    async def _name(self, request: Request[Any]) -> str:
        """The name of the item at the path, which may have its id."""
        return (await self._newest(request))[0]

    async def _newest(self, request: Request[Any]) -> tuple[str, int]:
        """The name of the item at the path, and the number of its newest version."""
        name, glance = request.path[self._key], self._engine.db.glance
        if (n := await glance(versions.number_of, self._section.key, name)) or self._get is None:
            return name, n
        answer = await self._get.run(request)
        item = msgspec.to_builtins(answer.body if isinstance(answer, Reply) else answer)
        name = str(item["name"])
        return name, await glance(versions.number_of, self._section.key, name)

    async def list_all(self, request: Request[None]) -> VersionPage:
        """The versions of an item, newest first; those of a deleted one too, as long as they are kept."""
        name, (limit, offset) = await self._name(request), _window(request)
        page = await self._engine.db.scan(versions.page, self._section.key, name, limit, offset)
        owner = managed_by(self._engine, self._section.key, name)
        return VersionPage(**msgspec.structs.asdict(page), managed_by=owner)

    async def get(self, request: Request[None]) -> WholeVersion:
        """One version with the whole item."""
        name = await self._name(request)
        return await self._engine.db.read(versions.get, self._section.key, name, _number(request))

    async def compare(self, request: Request[None]) -> Difference:
        """What differs between a version and the one before it, or the one that `against` names."""
        name, n = await self._name(request), _number(request)
        other = number(request.query, "against", n - 1, 0, 10**12 - 1)
        return await self._engine.db.read(_difference, self._section.key, name, n, other)

    async def roll_back(self, request: Request[Rollback]) -> RolledBack:
        """Gives the item the content of a version, as a new version; credentials stay, a deleted item is back."""
        name, engine, key = await self._name(request), self._engine, self._section.key
        args = (engine, engine.sections, request.actor, key, name, request.body.version)
        made = await request.write(roll_back, *args)
        await reconnect(engine, {key})
        return made

    def tagged(self, route: Route) -> Route:
        """A route of the item with its ETag, the number of its newest version; a change has If-Match too."""
        sends = {**route.sends, **({} if route.status == 204 else {"ETag": _TAG})}
        if route.method == "GET":
            return replace(route, run=_as(route.run, self._read), sends=sends)
        headers, also = {**route.headers, "If-Match": _IF_MATCH}, {**route.also, 412: None}
        return replace(route, run=_as(route.run, self._change), headers=headers, sends=sends, also=also)

    async def _read(self, run: Run, request: Request[Any]) -> Any:
        """The item with the ETag from before it was read: an older one is safe, a newer one would hide a change."""
        if request.method not in ("GET", "HEAD"):  # the record of a change has no ETag
            return await run(request)
        _, n = await self._newest(request)
        return _reply(await run(request), n)

    async def _change(self, run: Run, request: Request[Any]) -> Any:
        section, expected, n = self._section.key, _expected(request), 0
        name = await self._name(request) if expected else ""

        def check(conn: Connection, answer: Any) -> None:
            """Before the change has its version, and in its transaction, which the error rolls back."""
            if expected and str(now := versions.number_of(conn, section, name)) not in expected:
                message = f"'{name[:255]}' is of version {now} by now; read it again"
                raise PreconditionFailed(message, headers={"ETag": f'"{now}"'})

        def note(conn: Connection, answer: Any) -> None:
            nonlocal n
            n = versions.number_of(conn, section, getattr(answer, "name", ""))

        request.records = (check, *request.records, note)
        answer = await run(request)
        return None if answer is None else _reply(answer, n)


def _as(run: Run, outer: Callable[[Run, Request[Any]], Awaitable[Any]]) -> Run:
    """What runs a route within another function; the API document has its own name and words."""

    @wraps(run.func if isinstance(run, partial) else run)
    async def within(request: Request[Any]) -> Any:
        return await outer(run, request)

    return within


def _expected(request: Request[Any]) -> list[str]:
    """The versions that If-Match names; none if any will do."""
    match = request.headers.get("if-match", "*").strip()
    return [] if match == "*" else [one.strip().removeprefix("W/").strip('"') for one in match.split(",")]


def _reply(answer: Any, n: int) -> Reply:
    reply = answer if isinstance(answer, Reply) else Reply(body=answer)
    if n:
        reply.headers["ETag"] = f'"{n}"'
    return reply


def _window(request: Request[Any]) -> tuple[int, int]:
    limit, offset = page_window(request.query, 50, 200)
    return limit, offset_of(request.query) if "after" in request.query else offset


def _number(request: Request[Any]) -> int:
    text = request.path["number"]
    if not text.isascii() or not text.isdecimal() or len(text) > 12:
        raise NotFound(f"There is no version '{text[:100]}'; a version is a number, such as 3")
    return int(text)


def _difference(conn: Connection, section: str, name: str, n: int, other: int) -> Difference:
    old = (versions.get(conn, section, name, other).content if other else None) or {}
    new = versions.get(conn, section, name, n).content or {}
    changes = [
        FieldChange(field, old.get(field), new.get(field))
        for field in {**old, **new}
        if not same_json(old.get(field), new.get(field))
    ]
    return Difference(before=other, after=n, changes=(*changes,))


def tagged(engine: Engine, others: Iterable[Route]) -> list[Route]:
    """The routes, those of an item of the configuration with its ETag and If-Match."""
    found = [*others]
    for section, of_item in _by_section(engine, found):
        known = _versions_of(engine, section, of_item)
        changed = {id(one): known.tagged(one) for one in of_item.values() if one.method != "POST"}
        found = [changed.get(id(one), one) for one in found]
    return found


def _by_section(engine: Engine, routes: Iterable[Route]) -> Iterator[tuple[ConfigSection, dict[str, Route]]]:
    """The routes of an item by method, for each section with named items."""
    every = [*routes]
    for section in versioned(engine.sections).values():
        of_item = [one for one in every if one.path.rpartition("/{")[0] == section.path and one.path.endswith("}")]
        if of_item:
            yield section, {one.method: one for one in of_item if one.path == of_item[0].path}


def _versions_of(engine: Engine, section: ConfigSection, of_item: dict[str, Route]) -> ItemVersions:
    path = next(iter(of_item.values())).path
    return ItemVersions(engine, section, path.rpartition("/{")[2][:-1], of_item.get("GET"))


def routes(engine: Engine, others: Iterable[Route]) -> Iterator[Route]:
    """The routes for each section with named items; what an item's GET and PUT need, these need too."""
    for section, by_method in _by_section(engine, others):
        path = next(iter(by_method.values())).path
        get, put = by_method.get("GET"), by_method.get("PUT") or by_method.get("PATCH")
        reads, writes = (one.scope if one else section.scope for one in (get, put))
        known = _versions_of(engine, section, by_method)
        what = section.key.replace("_", " ").removesuffix("s")
        yield Route(
            "GET",
            f"{path}/versions",
            reads,
            known.list_all,
            f"List the versions of a {what}",
            query={"limit": Parameter("rows, 200 at most", int | str), "offset": OFFSET, "after": AFTER},
            answer=VersionPage,
        )
        yield Route(
            "GET",
            f"{path}/versions/{{number}}",
            reads,
            known.get,
            f"Get a version of a {what}",
            answer=WholeVersion,
        )
        yield Route(
            "GET",
            f"{path}/versions/{{number}}/diff",
            reads,
            known.compare,
            f"Compare a version of a {what}",
            query={"against": AGAINST},
            answer=Difference,
        )
        yield Route(
            "POST",
            f"{path}/rollback",
            writes,
            known.roll_back,
            f"Roll a {what} back",
            body=Rollback,
            example={"version": 1},
            answer=RolledBack,
            also={409: None, 422: None},
        )
