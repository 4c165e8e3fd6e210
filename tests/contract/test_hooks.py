"""Every hook, once, in a real engine."""

import asyncio
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import anyio
import pytest
from msgspec import Meta, Struct

import bytebrew
from bytebrew import (
    ANYONE,
    Action,
    Actor,
    Agent,
    AgentList,
    AuthMode,
    BudgetExceeded,
    Call,
    CapabilityType,
    CatalogModel,
    CatalogProvider,
    ChosenModel,
    ConfigDialect,
    ConfigSection,
    Driver,
    Engine,
    Forbidden,
    Guard,
    MessageDelta,
    Migration,
    ModelChooser,
    Node,
    Notice,
    Notification,
    Option,
    Outcome,
    Payer,
    Person,
    PersonalData,
    PlannedCall,
    Problem,
    Request,
    Reservation,
    Route,
    Sample,
    Scope,
    Settings,
    SpendGuard,
    Spent,
    Stop,
    Store,
    Target,
    Tool,
    ToolCall,
    Toolset,
    Usage,
    expired_before,
    placeholders,
    tool,
)
from bytebrew.base.errors import BootError, Detail, InvalidRequest
from bytebrew.contract import hookspecs
from bytebrew.contract.connection import Connection, Row
from bytebrew.conversation.turn import Turn
from bytebrew.store.sqlite.driver import SQLiteDriver
from bytebrew.store.sqlite.pragmas import connect
from bytebrew.testing import (
    ScriptedProvider,
    chat,
    engine,
    names,
    plugin,
    providing,
    scripted_schema,
    served_engine,
    token,
)
from bytebrew.web.app import Application
from tests.commands import install, run


class Pond(Struct, frozen=True, kw_only=True):
    """Settings of a plugin."""

    pond_depth: Annotated[int, Meta(description="how deep it is")] = 3


@tool
async def quack(times: int = 1) -> str:
    """Quacks."""
    return "quack" * times


def test_every_hook_has_a_test_of_its_name() -> None:
    hooks = {name for name, hook in vars(hookspecs).items() if hasattr(hook, "bytebrew_spec")}
    tests = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert hooks
    assert hooks <= tests
    assert set(hookspecs.DECLARING) | set(hookspecs.OBSERVING) | {"register_commands", "collect_metrics"} == hooks


async def test_register_settings() -> None:
    duck = plugin(register_settings=lambda register: register(Pond))
    async with engine(duck) as shallow, engine(duck, settings={"BYTEBREW_POND_DEPTH": "7"}) as deep:
        assert (shallow.settings.of(Pond).pond_depth, deep.settings.of(Pond).pond_depth) == (3, 7)


async def test_register_providers() -> None:
    seen: list[Settings] = []

    def register_providers(register: Any, settings: Settings) -> None:
        seen.append(settings)
        register(ScriptedProvider([MessageDelta(content="hello")]))

    async with served_engine(plugin(register_providers=register_providers)) as (running, client):
        await scripted_schema(running)
        assert names(await chat(client, "test", "hi")) == ["message_delta", "message", "done"]
        assert seen == [running.settings]


class Lake(ScriptedProvider):
    """A vendor with an address, which alone its catalog's prices are for."""

    base_url = "https://pond.example"


async def test_register_catalog() -> None:
    def register_catalog(register: Any) -> None:
        register(CatalogProvider(id="scripted", display_name="Pond", auth_type="none", website=""))
        register(
            CatalogModel(
                id="script",
                display_name="Duck",
                provider="scripted",
                tier=3,
                context_window=100,
                max_output=10,
                supports_tools=False,
                supports_vision=False,
                pricing_input=1,
                pricing_output=2,
                pricing_cached=0.5,
                description="Quacks",
                recommended_for=("utility",),
            )
        )

    provider = Lake([MessageDelta(content="quack"), Usage(3, 2, 2)])
    async with served_engine(plugin(register_catalog=register_catalog), providing(provider)) as (running, client):
        await scripted_schema(running)
        registry = "/api/v1/models/registry"
        [known] = (await client.get(f"{registry}?provider=scripted")).json()
        assert (known["id"], known["pricing_cached"]) == ("script", 0.5)
        assert "scripted" in [vendor["id"] for vendor in (await client.get(f"{registry}/providers")).json()]
        done = json.loads((await chat(client, "test", "hi"))[-1].data)
    assert done["usage"]["cost_usd"] == 6e-6  # one fresh token for 1, two cached for 0.5 each, two of output for 2 each


async def test_register_tools() -> None:
    provider = ScriptedProvider([ToolCall("quack", {"times": 2})], [MessageDelta(content="so it does")])
    duck = plugin(register_tools=lambda register, settings: register(quack))
    async with served_engine(duck, providing(provider)) as (running, client):
        await scripted_schema(running, tools=("quack",))
        events = await chat(client, "test", "Make it quack")
    assert [spec.name for spec in provider.requests[0].tools] == ["quack"]
    assert '"output":"quackquack"' in next(event.data for event in events if event.event == "tool_result")


async def test_register_toolsets() -> None:
    class Ducks(Toolset):
        async def tools(self, agent: Agent) -> Sequence[Tool]:
            return [quack] if agent.name == "duck" else []

    provider = ScriptedProvider([MessageDelta(content="quack")])
    duck = plugin(register_toolsets=lambda register, engine: register(Ducks()))
    async with served_engine(duck, providing(provider)) as (running, client):
        await scripted_schema(running, "duck")
        await scripted_schema(running, "goose")
        await chat(client, "duck", "Who are you?")
        await chat(client, "goose", "Who are you?")
    assert [[spec.name for spec in request.tools] for request in provider.requests] == [["quack"], []]


class Luck(Struct, frozen=True, forbid_unknown_fields=True):
    """How lucky an agent is."""

    sides: Annotated[int, Meta(ge=2)] = 6


async def test_register_capabilities() -> None:
    """An agent may have it, over REST and in the YAML, with a config that is checked and has all fields."""

    def check(conn: Connection, config: Luck) -> None:
        if config.sides == 13:
            raise InvalidRequest("13 is unlucky", details=[Detail("$.config.sides", "is unlucky")])

    luck = plugin(
        register_capabilities=lambda register: register(
            CapabilityType(name="luck", config=Luck, flag="lucky", check=check)
        )
    )
    async with served_engine(luck) as (running, client):
        await client.post("/api/v1/agents", json={"name": "a"})
        url = "/api/v1/agents/a/capabilities"
        for sides in (1, 13, "six"):
            refused = await client.post(url, json={"type": "luck", "config": {"sides": sides}})
            assert (refused.status_code, refused.json()["details"][0]["path"]) == (400, "$.config.sides")
        assert (await client.post(url, json={"type": "luck"})).json()["config"] == {"sides": 6}
        assert (await client.put(f"{url}/luck", json={"config": {"sides": 20}})).status_code == 204
        [agent] = [one for one in await running.agents() if one.name == "a"]
        assert (own := agent.capability("luck")) is not None
        assert own.config == {"sides": 20}
        assert (await client.get("/api/v1/agents/a")).json()["lucky"] is True
        assert {one["name"]: one["lucky"] for one in (await client.get("/api/v1/agents")).json()} == {
            "a": True,
            "demo": False,
        }
        document = (await client.get("/api/v1/openapi.json")).json()["components"]["schemas"]
        assert "luck" in document["NewCapability"]["properties"]["type"]["enum"]
        assert "Luck" in document["Capability"]["description"]
        exported = (await client.get("/api/v1/config/export")).text
        assert "luck" in exported
        url = "/api/v1/config/import"
        again = await client.post(url, content=exported, headers={"content-type": "application/yaml"})
        assert {change["action"] for change in again.json()["changes"]} == {"unchanged"}


async def test_a_capability_of_a_plugin_that_is_gone_stays_and_is_left_out_of_exports(tmp_path: Path) -> None:
    url, file = "/api/v1/agents/a/capabilities", "agents: {a: {capabilities: [{type: knowledge}]}}"
    luck = plugin(register_capabilities=lambda register: register(CapabilityType(name="luck", config=Luck)))
    async with served_engine(luck, data=tmp_path) as (_, client):
        await client.post("/api/v1/agents", json={"name": "a"})
        await client.post(url, json={"type": "luck"})
    async with served_engine(data=tmp_path) as (_, client):
        assert "luck" not in (await client.get("/api/v1/config/export")).text
        await client.post("/api/v1/config/import", content=file, headers={"content-type": "application/yaml"})
        assert [one["type"] for one in (await client.get(url)).json()] == ["knowledge", "luck"]
        assert (await client.put(f"{url}/luck", json={"config": {"sides": 3}})).status_code == 400
        assert (await client.post(url, json={"type": "luck"})).status_code == 400
        assert (await client.put(f"{url}/luck", json={"enabled": False})).status_code == 204


async def test_an_engine_without_types_of_capabilities_gives_none() -> None:
    async with served_engine(settings={"BYTEBREW_DISABLED_PLUGINS": "memory,knowledge"}) as (_, client):
        await client.post("/api/v1/agents", json={"name": "a"})
        refused = await client.post("/api/v1/agents/a/capabilities", json={"type": "memory"})
        assert (refused.status_code, refused.json()["details"][0]["path"]) == (400, "$.type")
        assert (await client.get("/api/v1/openapi.json")).status_code == 200


class Boards(Toolset):
    """A toolset of the agents that name a board."""

    lists = ("boards",)
    foreign = "its boards"

    def __init__(self) -> None:
        self.seen: list[tuple[str, ...]] = []

    async def tools(self, agent: Agent) -> Sequence[Tool]:
        self.seen.append(agent.lists["boards"])
        return [quack]

    def knows(self, conn: Connection, agent: Agent, gate: str) -> bool:
        return False

    def missing(self, conn: Connection, agent: Agent) -> list[str]:
        return [f"boards: there is no board '{name}' yet" for name in agent.lists["boards"] if name != "black"]


def with_boards(boards: Toolset) -> tuple[str, object]:
    return plugin(
        "boards",
        register_agent_lists=lambda register: register(AgentList(name="boards", description="boards to read", most=2)),
        register_toolsets=lambda register: register(boards),
    )


YAML = {"content-type": "application/yaml"}


async def test_register_agent_lists() -> None:
    """An agent has the list over REST, in the YAML and in the API document, and the toolset sees it."""
    boards, provider = Boards(), ScriptedProvider([MessageDelta(content="quack")])
    async with served_engine(with_boards(boards), providing(provider)) as (running, client):
        await scripted_schema(running, "reader", boards=("black",))
        await scripted_schema(running, "other")
        await chat(client, "reader", "Read")
        await chat(client, "other", "Read")
        assert [[spec.name for spec in request.tools] for request in provider.requests] == [["quack"], []]
        assert boards.seen == [("black",)]

        made = await client.post("/api/v1/agents", json={"name": "a", "boards": ["white"], "mcp_servers": ["files"]})
        assert (made.status_code, made.json()["boards"]) == (201, ["white"])
        assert "boards: there is no board 'white' yet" in made.json()["warnings"]
        fields = [*made.json()]
        assert fields[fields.index("can_spawn") :][:4] == ["can_spawn", "boards", "mcp_servers", "created_at"]
        for names, path in ((["Up"], "$.boards[0]"), (["x", "y", "z"], "$.boards"), ("x", "$.boards")):
            for refused in (
                await client.post("/api/v1/agents", json={"name": "b", "boards": names}),
                await client.patch("/api/v1/agents/a", json={"boards": names}),
            ):
                assert (refused.status_code, refused.json()["details"][0]["path"]) == (400, path)
        assert (await client.post("/api/v1/agents", json={"name": "b", "bords": []})).status_code == 400
        gated = {"boards": ["black"], "confirm_before": ["gone"]}
        assert (await client.patch("/api/v1/agents/a", json={"description": "same"})).json()["boards"] == ["white"]
        warned = (await client.patch("/api/v1/agents/a", json=gated)).json()["warnings"]
        [warning] = [one for one in warned if one.startswith("confirm_before: the agent has no tool 'gone'")]
        assert warning.endswith("a person is asked about every tool of its boards and its MCP servers")
        shown = (await client.get("/api/v1/agents/a")).json()
        assert shown["boards"] == ["black"]
        assert (await client.put("/api/v1/agents/a", json=shown)).status_code == 200

        document = (await client.get("/api/v1/openapi.json")).json()["components"]["schemas"]
        field = document["NewAgent"]["properties"]["boards"]
        assert (field["description"], field["maxItems"]) == ("boards to read", 2)
        assert {"boards"} <= document["AgentPatch"]["properties"].keys() & document["AgentDetail"]["properties"].keys()

        exported = (await client.get("/api/v1/config/export")).text
        assert "boards:\n      - black" in exported
        again = await client.post("/api/v1/config/import", content=exported, headers=YAML)
        assert {change["action"] for change in again.json()["changes"]} == {"unchanged"}
        file = "agents: {a: {boards: [green]}, c: {boards: [red]}}"
        await client.post("/api/v1/config/import", content=file, headers=YAML)
        agents = {one.name: one for one in await running.agents()}
        assert [agents[name].lists["boards"] for name in ("a", "c", "demo")] == [("green",), ("red",), ()]
        wrong = await client.post("/api/v1/config/import", content="agents: {a: {boards: [UP]}}", headers=YAML)
        assert (wrong.status_code, wrong.json()["details"][0]["path"]) == (400, "$.agents.a.boards[0]")


async def test_a_list_of_a_plugin_that_is_gone_stays_and_is_refused_and_left_out_of_exports(tmp_path: Path) -> None:
    url = "/api/v1/agents/a"
    async with served_engine(with_boards(Boards()), data=tmp_path) as (_, client):
        await client.post("/api/v1/agents", json={"name": "a", "boards": ["black"], "mcp_servers": ["files"]})
        file = (await client.get("/api/v1/config/export")).text
    bare = {"BYTEBREW_DISABLED_PLUGINS": "mcp"}
    async with served_engine(data=tmp_path, settings=bare) as (running, client):
        shown = (await client.get(url)).json()
        assert not {"boards", "mcp_servers"} & shown.keys()
        words = "no plugin is there that makes tools of them"
        assert shown["warnings"][-2:] == [f"boards: {words}", f"mcp_servers: {words}"]
        exported = (await client.get("/api/v1/config/export")).text
        assert "boards" not in exported
        assert "mcp_servers" not in exported
        assert (await client.patch(url, json={"mcp_servers": []})).status_code == 400
        assert (await client.post("/api/v1/agents", json={"name": "b", "boards": []})).status_code == 400
        refused = (await client.post("/api/v1/config/import", content=file, headers=YAML)).json()
        assert [one["path"] for one in refused["details"]] == ["$.agents.a.boards", "$.agents.demo.boards"]
        for mode in ("merge", "replace"):
            taken = await client.post(f"/api/v1/config/import?mode={mode}", content=exported, headers=YAML)
            assert taken.status_code == 200, taken.text
        assert (await client.post("/api/v1/agents", json={"name": "b"})).status_code == 201
        await scripted_schema(running, "c")
    async with served_engine(with_boards(Boards()), data=tmp_path) as (running, _):
        agents = {one.name: one.lists for one in await running.agents()}
        assert agents["a"] == {"boards": ("black",), "mcp_servers": ("files",)}
        assert agents["b"] == {"boards": (), "mcp_servers": ()}


@pytest.mark.parametrize("name", ["", "Boards", "my-boards", "a;b", "model", "capabilities", "warnings"])
def test_a_list_that_cannot_be_a_field_of_its_own_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be a list of an agent"):
        AgentList(name=name)


async def test_a_column_of_a_plugins_own_in_the_table_of_agents_is_no_list() -> None:
    sql = (
        "alter table agents add column boards_seen integer; alter table agents add column boards_note text default 'x'"
    )
    noted = plugin(register_migrations=lambda register: register(Migration(1, sql)))
    async with served_engine(noted) as (running, client):
        assert (await client.post("/api/v1/agents", json={"name": "a"})).status_code == 201
        assert {one.name: one.lists for one in await running.agents()}["a"] == {"mcp_servers": ()}


def test_a_list_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="the list 'boards' may have 0 names"):
        AgentList(name="boards", most=0)


async def test_a_list_named_as_the_flag_of_a_capability_is_refused() -> None:
    flags = plugin(register_agent_lists=lambda register: register(AgentList(name="has_knowledge")))
    with pytest.raises(BootError, match="'has_knowledge' is a list of agents and the flag of a capability"):
        async with served_engine(flags):
            pass


async def test_register_scopes() -> None:
    """A token may have it, and a route is refused without it."""

    async def fly(request: Request[None]) -> str:
        return request.actor.name

    def register_routes(register: Any) -> None:
        register(Route(method="GET", path="/api/v1/flights", scope="fly", run=fly, summary="Fly", answer=str))

    scope = Scope(name="fly", bit=1 << 20, aliases=("wings",))
    duck = plugin(register_scopes=lambda register: register(scope), register_routes=register_routes)
    async with served_engine(duck) as (running, client):
        for asked, status in (("fly", 200), ("wings", 200), ("chat", 403)):
            headers = {"authorization": f"Bearer {await token(running, asked)}"}
            assert (await client.get("/api/v1/flights", headers=headers)).status_code == status
        listed = (await client.get("/api/v1/auth/tokens")).json()
        assert [one["scopes_mask"] for one in listed if one["scopes"] == ["fly"]] == [1 << 20, 1 << 20]


async def test_register_auth_modes() -> None:
    class Feathers(AuthMode):
        name = "feathers"

        async def authenticate(self, token: str) -> Actor | None:
            if token != "duck":
                return None
            return Actor(subject="user:duck", name="duck", kind="user", scopes=frozenset({"models:read"}))

    duck = plugin(register_auth_modes=lambda register, settings: register(Feathers()))
    async with served_engine(duck, settings={"BYTEBREW_AUTH_MODE": "feathers"}) as (_, client):
        for token, path, status in (
            ("duck", "models", 200),
            ("duck", "agents", 403),
            ("goose", "models", 401),
        ):
            answer = await client.get(f"/api/v1/{path}", headers={"authorization": f"Bearer {token}"})
            assert answer.status_code == status, (token, path)


async def test_register_migrations() -> None:
    def register_migrations(register: Any) -> None:
        register(Migration(1, "create table pond (depth integer) strict;"))
        register(Migration(2, "insert into pond values (3);"))

    async with engine(plugin(register_migrations=register_migrations)) as running:
        assert await running.db.read(lambda conn: conn.execute("select depth from pond").fetchone()[0]) == 3


async def test_register_stores(tmp_path: Path) -> None:
    class Shelf(Store):
        scheme = "shelf"

        def driver(self, url: str) -> Driver:
            return SQLiteDriver(tmp_path / url.removeprefix("shelf://"))

    def register_stores(register: Any, settings: Settings) -> None:
        register(Shelf())

    on_shelf = {"BYTEBREW_DATABASE_URL": "shelf://kept.db"}
    async with engine(plugin(register_stores=register_stores), settings=on_shelf) as running:
        assert running.driver.place == str(tmp_path / "kept.db")
        assert not running.folder.database.exists()
        await scripted_schema(running)
    with closing(connect(tmp_path / "kept.db")) as conn:
        assert "test" in {name for (name,) in conn.execute("select name from agents")}
    with pytest.raises(
        BootError, match=r"BYTEBREW_DATABASE_URL: no plugin registers a store for 'tape'; known: .*shelf"
    ):
        async with engine(plugin(register_stores=register_stores), settings={"BYTEBREW_DATABASE_URL": "tape://1"}):
            pass


async def test_register_routes() -> None:
    class Bread(Struct, forbid_unknown_fields=True):
        """What is thrown into the pond."""

        crumbs: int

    async def feed(request: Request[Bread]) -> dict[str, Any]:
        return {"eaten": request.body.crumbs, "by": request.path["name"], "from": request.actor.name}

    def register_routes(register: Any, engine: Engine) -> None:
        path = "/api/v1/ducks/{name}"
        register(Route(method="POST", path=path, scope="config", run=feed, summary="Feed a duck", body=Bread))

    async with served_engine(plugin(register_routes=register_routes)) as (_, client):
        answer = await client.post("/api/v1/ducks/daisy", json={"crumbs": 5})
        assert answer.json() == {"eaten": 5, "by": "daisy", "from": "bootstrap-admin"}
        assert (await client.post("/api/v1/ducks/daisy", json={"stones": 5})).status_code == 400
        assert (await client.post("/api/v1/ducks/daisy", headers={"authorization": ""})).status_code == 401
        assert (await client.get("/api/v1/ducks/daisy")).status_code == 405


async def test_a_route_that_is_there_already_is_told() -> None:
    async def health(request: Request[None]) -> None: ...

    route = Route(method="GET", path="/api/v1/health", scope=None, run=health, summary="Again")
    async with engine(plugin(register_routes=lambda register, engine: register(route))) as running:
        with pytest.raises(BootError, match="GET /api/v1/health is there twice; a plugin's route takes another path"):
            Application(running)


async def test_register_guards() -> None:
    async def closed(request: Request[Any], route: Route) -> dict[str, str]:
        if route.method == "POST" and request.actor.is_admin:
            raise Forbidden("The pond is frozen", code="frozen")
        return {"x-pond": "open"}

    async with served_engine(plugin(register_guards=lambda register, engine: register(Guard(closed)))) as (_, client):
        answer = await client.post("/api/v1/models", content=b"not even JSON")
        assert (answer.status_code, answer.json()["error"]) == (403, "frozen")
        assert (await client.get("/api/v1/models")).headers["x-pond"] == "open"
        assert (await client.post("/api/v1/models", headers={"authorization": ""})).status_code == 401


class Feed(Reservation):
    """What a duck may eat."""

    max_tokens = 10
    notices = (Notice(code="feed_low", message="Little feed is left"),)

    def __init__(self, seen: list[str]) -> None:
        self.seen = seen

    def settle(self, conn: Connection, spent: Sequence[Spent]) -> None:
        [row] = conn.execute("select count(*) from usage").fetchall()
        self.seen.append(f"settle {[one.usage.output_tokens for one in spent]} beside {row[0]}")

    def release(self, conn: Connection) -> None:
        self.seen.append("release")


class Keeper(SpendGuard):
    """Lets turns of a schema in, and holds feed for each model call."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def admit(self, payer: Payer) -> None:
        self.seen.append(f"admit {payer.schema} {payer.agent} {payer.token or payer.subject}")
        if payer.schema == "closed":
            raise BudgetExceeded("No feed is left")

    async def reserve(self, payer: Payer, call: PlannedCall) -> Reservation:
        self.seen.append(f"reserve {call.models} {call.max_tokens} {call.input_price} {call.own_key}")
        return Feed(self.seen)


async def test_register_spend_guards() -> None:
    keeper = Keeper()
    provider = ScriptedProvider([MessageDelta(content="quack"), Usage(3, 2)])
    duck = plugin(register_spend_guards=lambda register, engine: register(keeper))
    async with served_engine(duck, providing(provider)) as (running, client):
        await scripted_schema(running, max_tokens=70)
        await scripted_schema(running, "closed")
        assert names(await chat(client, "test", "hi")) == ["notice", "message_delta", "message", "done"]
        refused = await client.post("/api/v1/schemas/closed/chat", json={"message": "hi"})
        assert (refused.status_code, refused.json()["error"]) == (402, "budget_exceeded")
        keeper.active = False
        assert names(await chat(client, "closed", "hi")) == ["message_delta", "message", "done"]
    [admitted, *rest] = keeper.seen
    assert admitted.startswith("admit test test token:")
    assert rest[:2] == ["reserve ('test',) 70 None False", "settle [2] beside 1"]
    assert [request.max_tokens for request in provider.requests] == [10, None]


async def test_register_recorders() -> None:
    stored: list[str] = []
    seen: list[Action] = []

    def record(conn: Connection, action: Action) -> None:
        if action.resource_id == "no":
            raise ValueError("The pond is full")
        [row] = conn.execute("select max_steps from agents where name = 'test'").fetchall()
        stored.append(f"{action.name} {row['max_steps']}")

    async def actor_acted(action: Action) -> None:
        seen.append(action)

    duck = plugin(register_recorders=lambda register, engine: register(record), actor_acted=actor_acted)
    async with served_engine(duck) as (running, client):
        await scripted_schema(running)
        await client.get("/api/v1/agents/test")
        answer = await client.patch("/api/v1/agents/test", json={"max_steps": 7})
        assert stored == ["agent.update 7"]
        assert [action.after for action in seen] == [answer.json()]
        refused = await client.post("/api/v1/agents", json={"name": "no"})
        assert (refused.status_code, refused.json()["error"]) == (503, "not_recorded")
        assert "plugin in_test" in refused.json()["message"]
        assert (await client.get("/api/v1/agents/no")).status_code == 404
    assert len(seen) == 1


async def test_a_recorder_that_must_be_waited_for_stops_the_boot() -> None:
    async def record(conn: Connection, action: Action) -> None: ...

    with pytest.raises(BootError, match="must be a plain function"):
        async with engine(plugin(register_recorders=lambda register, engine: register(record))):
            pass


async def test_register_subscribers() -> None:
    """They run where a turn fails, a task ends and an approval begins to wait, in that transaction."""
    seen: list[tuple[str, str]] = []
    stored: list[str] = []

    def broken(conn: Connection, notification: Notification) -> None:
        conn.execute("update agents set max_steps = 99")
        raise ValueError("The pond is frozen")

    def subscribe(conn: Connection, notification: Notification) -> None:
        seen.append((notification.name, notification.data.get("status", "")))
        table = {"turn.failed": "turns", "task.ended": "tasks", "approval.waiting": "confirmations"}[notification.name]
        [row] = conn.execute(f"select status from {table} where id = ?", (notification.subject,)).fetchall()
        stored.append(row["status"])

    @tool
    async def pay() -> str:
        """Pays."""
        return "paid"

    def register_subscribers(register: Any, engine: Engine) -> None:
        register(broken)
        register(subscribe)

    provider = ScriptedProvider([ToolCall(tool="pay", input={}, call_id="1")], [Stop("refusal")])
    duck = plugin(register_subscribers=register_subscribers, register_tools=lambda register: register(pay))
    async with served_engine(providing(provider), duck) as (running, client):
        await scripted_schema(running, tools=["pay"], confirm_before=["pay"])
        asked = await client.post("/api/v1/schemas/test/chat", json={"message": "Pay", "stream": False})
        assert asked.status_code == 202
        assert (seen, stored) == ([("approval.waiting", "")], ["pending"])
        [question] = (await client.get("/api/v1/approvals")).json()["data"]
        place = f"/api/v1/approvals/{question['id']}/respond"
        assert (await client.post(place, json={"answers": ["approve"]})).status_code == 200
        with anyio.fail_after(10):
            while len(seen) < 2:
                await anyio.sleep(0.01)
        task = {"title": "Swim", "agent": "test", "require_approval": True}
        made = (await client.post("/api/v1/tasks", json=task)).json()
        assert (await client.delete(f"/api/v1/tasks/{made['id']}")).status_code in (200, 204)
        assert seen[1:] == [("turn.failed", "failed"), ("task.ended", "cancelled")]
        assert stored[1:] == ["failed", "cancelled"]
        assert (await client.get("/api/v1/agents/test")).json()["max_steps"] != 99


async def test_register_propagators() -> None:
    heard: list[str] = []

    @tool
    async def answer(call: Call) -> str:
        """Answers another duck."""
        heard.append(call.traceparent)
        return "quack"

    def span_of(turn: bytebrew.Turn, call_id: str) -> str:
        return f"{turn.root_id == turn.id} {turn.traceparent} {call_id}"

    duck = plugin(
        register_tools=lambda register: register(answer),
        register_propagators=lambda register, engine: register(span_of),
    )
    quacking = ScriptedProvider([ToolCall("answer", {}, "call_1")], [MessageDelta(content="well")])
    async with served_engine(duck, providing(quacking)) as (running, client):
        await scripted_schema(running, tools=["answer"])
        await chat(client, "test", "go")
    assert heard == ["True None call_1"]


async def test_a_second_propagator_stops_the_boot() -> None:
    _, duck = plugin(register_propagators=lambda register, engine: register(lambda turn, call_id: ""))
    _, goose = plugin(register_propagators=lambda register, engine: register(lambda turn, call_id: ""))
    with pytest.raises(BootError, match="plugins duck and goose both register the propagator"):
        async with engine(("duck", duck), ("goose", goose)):
            pass


async def test_register_config_sections() -> None:
    ponds: dict[str, int] = {}
    told: list[str] = []

    class PondItem(Struct, frozen=True, kw_only=True):
        name: str
        depth: int

    class Ponds(ConfigSection):
        key = "ponds"
        item = PondItem

        def export(self, conn: Any, engine: Engine) -> dict[str, Any]:
            return {name: {"depth": depth} for name, depth in sorted(ponds.items())}

        def put(self, conn: Any, engine: Engine, actor: Actor, name: str, given: Any) -> None:
            ponds[name] = given["depth"]
            told.append(actor.name)

        def delete(self, conn: Any, engine: Engine, name: str) -> None:
            del ponds[name]

        async def changed(self, engine: Engine) -> None:
            told.append("changed")

    section = plugin(register_config_sections=lambda register: register(Ponds()))
    async with served_engine(section) as (_, client):
        url, yaml = "/api/v1/config/import", b"ponds: {village: {depth: 3}, castle: {depth: 9}}"
        answer = (await client.post(url, content=yaml, headers={"content-type": "text/yaml"})).json()
        assert (answer["ponds_imported"], ponds) == (2, {"village": 3, "castle": 9})
        assert told == ["bootstrap-admin", "bootstrap-admin", "changed"]
        exported = (await client.get("/api/v1/config/export")).text
        assert "\nponds:\n  castle:\n    depth: 9\n  village:\n    depth: 3\n" in exported
        assert (await client.post(f"{url}?mode=replace", json={"ponds": {"castle": None}})).status_code == 200
        assert (ponds, told[3:]) == ({"castle": 9}, ["changed"])


async def test_register_model_choosers() -> None:
    """Its model answers for who sends its header, which no tool is shown."""

    class Goose(ModelChooser):
        headers = {"X-Goose": "the key of a goose"}

        async def choose(self, request: Request[Any]) -> ChosenModel:
            return ChosenModel(Target(name="goose", type="scripted", model_name="goose"), request.headers["x-goose"])

    shown: list[set[str]] = []

    @tool
    async def look(call: Call) -> str:
        """Looks."""
        shown.append({*call.headers})
        return "seen"

    provider = ScriptedProvider([ToolCall(tool="look", input={}, call_id="1")], [MessageDelta(content="honk")])
    duck = plugin(
        register_model_choosers=lambda register: register(Goose()), register_tools=lambda register: register(look)
    )
    async with served_engine(providing(provider), duck) as (running, client):
        await scripted_schema(running, tools=["look"])
        for headers in ({"X-Goose": "honking"}, {"X-Gander": "none"}):
            provider.requests.clear()
            answer = await client.post("/api/v1/schemas/test/chat", json={"message": "hi"}, headers=headers)
            assert "event: done" in answer.text
            keys = {(request.model_name, request.api_key) for request in provider.requests}
            assert keys == {("goose", "honking") if "X-Goose" in headers else ("script", "")}
        chat = (await client.get("/api/v1/openapi.json")).json()["paths"]["/api/v1/schemas/{name}/chat"]["post"]
    assert "X-Goose" in {one.get("name") for one in chat["parameters"]}
    assert ["x-goose" in names for names in shown] == [False, False]
    assert "x-gander" in shown[1]


async def test_register_config_dialects() -> None:
    """A file in the dialect is read, its problems with the places of that file."""

    class Flock(ConfigDialect):
        sections = frozenset({"flock"})

        def convert(
            self, root: Node, known: Collection[str], note: Callable[[Problem], None], warn: Callable[[Problem], None]
        ) -> Node:
            own = root.value.get("flock")
            if own is None:
                return root
            warn(own.problem("$.flock", "is written agents"))
            keys = {**root.keys, "agents": root.keys["flock"]}
            return Node({**root.without("flock").value, "agents": own}, root.place, keys)

    duck = plugin(register_config_dialects=lambda register: register(Flock()))
    async with served_engine(duck) as (_, client):
        url, headers = "/api/v1/config/import", {"content-type": "application/yaml"}
        for text, status in (("flock:\n  goose: {model: demo}\n", 200), ("flock:\n  goose: {sise: 1}\n", 400)):
            answer = await client.post(url, content=text, headers=headers)
            assert answer.status_code == status, answer.text
        [detail] = [one for one in answer.json()["details"] if "sise" in one["message"]]
        assert (detail["line"], detail["column"], detail["path"]) == (2, 11, "$.agents.goose.sise")
        refused = await client.post(url, content="flok: {}\n", headers=headers)
        assert "did you mean 'flock'?" in refused.text
        assert (await client.get("/api/v1/agents/goose")).status_code == 200


async def test_register_options() -> None:
    seen: list[object] = []
    depth = Option(key="duck.depth", type=int, default=3, help="how deep", applied=seen.append)
    url = "/api/v1/settings/duck.depth"
    async with served_engine(plugin(register_options=lambda register: register(depth))) as (_, client):
        assert (await client.get(url)).json()["value"] == 3
        assert (await client.put(url, json={"value": 5})).json()["value"] == 5
        assert (await client.put(url, json={"value": "deep"})).status_code == 400
        await client.delete(url)
    assert seen == [5, 3]


async def test_register_retention() -> None:
    kept = Option(key="retention.ducks", type=int, default=0, help="days")
    table = "create table ducks (id integer primary key, hatched_at text not null) strict"

    def expire_ducks(conn: Connection) -> list[Row]:
        sql = "delete from ducks where id in (select id from ducks where hatched_at < ? limit 1) returning id"
        return [*conn.execute(sql, (expired_before(conn, kept),))]

    duck = plugin(
        register_options=lambda register: register(kept),
        register_migrations=lambda register: register(Migration(1, table)),
        register_retention=lambda register: register(expire_ducks),
    )
    async with served_engine(duck) as (running, client):

        def hatch(conn: Connection) -> None:
            conn.executemany("insert into ducks (hatched_at) values (?)", [("2020",), ("2021",), ("2999",)])

        def years(conn: Connection) -> list[str]:
            return [row[0] for row in conn.execute("select hatched_at from ducks order by id")]

        await running.db.write(hatch)
        await running.retention.run_once()
        assert await running.db.read(years) == ["2020", "2021", "2999"]
        await client.put("/api/v1/settings/retention.ducks", json={"value": 1})
        await running.retention.run_once()
        assert await running.db.read(years) == ["2999"]


async def test_register_personal_data() -> None:
    table = "create table ducks (id integer primary key, keeper text not null) strict"

    def of_keeper(conn: Connection, person: Person) -> list[dict[str, int]]:
        rows = conn.execute(f"select id from ducks where keeper in ({placeholders(person.names)})", person.names)
        return [{"duck": row["id"]} for row in rows]

    def set_free(conn: Connection, person: Person) -> int:
        return conn.execute(f"delete from ducks where keeper in ({placeholders(person.names)})", person.names).rowcount

    duck = plugin(
        register_migrations=lambda register: register(Migration(1, table)),
        register_personal_data=lambda register: register(PersonalData("ducks", of_keeper, set_free)),
    )
    async with engine(duck) as running:
        ducks = running.personal_data["ducks"]
        await running.db.write(lambda conn: conn.execute("insert into ducks (keeper) values ('ann'), ('bob')"))
        ann = Person(names=("ann", "user:ann"), mask="nobody", sessions=())
        assert await running.db.read(lambda conn: [*ducks.export(conn, ann)]) == [{"duck": 1}]
        assert [await running.db.write(ducks.forget, ann) for _ in range(2)] == [1, 0]


def test_register_commands(tmp_path: Path) -> None:
    source = """
from bytebrew import hookimpl
@hookimpl
def register_commands(cli):
    @cli.command("quack")
    def quack():
        "Quack once."
        print("quack!")
"""
    install(tmp_path, "duck", source)
    settings = {"BYTEBREW_PLUGINS_DIR": str(tmp_path)}
    assert run("quack", settings=settings).stdout == "quack!\n"
    assert "Quack once." in run("--help", settings=settings).stdout


async def test_collect_metrics(caplog: pytest.LogCaptureFixture) -> None:
    def depth(engine: Engine) -> Iterator[Sample]:
        yield Sample("pond_depth_meters", 3 if engine.turns == {} else 0, {"pond": "village"}, help="Water")
        yield Sample("pond_quacks_total", 7, kind="counter")

    def dry(engine: Engine) -> Iterator[Sample]:
        yield Sample("well_depth_meters", 1)
        raise ValueError("the well is dry")

    def sea(engine: Engine) -> list[object]:
        return [Sample("sea_depth_meters", 4000), ("sea_salt_grams", 35)]

    ponds = (
        plugin("pond", collect_metrics=depth),
        plugin("well", collect_metrics=dry),
        plugin("sea", collect_metrics=sea),
    )
    async with engine(*ponds) as running:
        told = {sample.name: (sample.value, dict(sample.labels), sample.kind) for sample in running.samples()}
    assert told["pond_depth_meters"] == (3, {"pond": "village"}, "gauge")
    assert told["pond_quacks_total"] == (7, {}, "counter")
    assert told.keys().isdisjoint({"well_depth_meters", "sea_depth_meters"})
    failed = [one.getMessage() for one in caplog.records if one.exc_info]
    assert failed == [f"plugin {name} failed in collect_metrics" for name in ("sea", "well")]


async def test_turn_started() -> None:
    seen: list[tuple[str, str, str]] = []

    async def turn_started(turn: Turn) -> None:
        seen.append((turn.message, turn.agent.name, turn.status))

    provider = ScriptedProvider([MessageDelta(content="hello")])
    async with served_engine(plugin(turn_started=turn_started), providing(provider)) as (running, client):
        await scripted_schema(running)
        await chat(client, "test", "hi")
    assert seen == [("hi", "test", "running")]


async def test_tool_finished() -> None:
    seen: list[tuple[str, ToolCall, Outcome]] = []

    async def tool_finished(turn: Turn, call: ToolCall, result: Outcome) -> None:
        seen.append((turn.session_id, call, result))

    provider = ScriptedProvider([ToolCall("quack", {}, "c1"), ToolCall("moo", {}, "c2")], [MessageDelta(content="ok")])
    duck = plugin(register_tools=lambda register: register(quack), tool_finished=tool_finished)
    async with served_engine(duck, providing(provider)) as (running, client):
        await scripted_schema(running, tools=("quack",))
        events = await chat(client, "test", "Make it quack and moo")
    assert [(call.call_id, result) for _, call, result in seen] == [
        ("c1", Outcome("quack", False)),
        ("c2", Outcome("There is no tool named 'moo'", True)),
    ]
    assert seen[0][0] in events[-1].data


async def test_turn_finished() -> None:
    seen: list[tuple[str, str, str]] = []

    async def turn_finished(engine: Engine, turn: Turn) -> None:
        sql = "select type from events where session_id = ? order by n desc"
        newest = await engine.db.read(lambda conn: conn.execute(sql, (turn.session_id,)).fetchone()[0])
        seen.append((turn.status, turn.failure.code if turn.failure else "", newest))

    provider = ScriptedProvider([MessageDelta(content="hello")], [ValueError("broken")])
    async with served_engine(plugin(turn_finished=turn_finished), providing(provider)) as (running, client):
        await scripted_schema(running)
        await chat(client, "test", "hi")
        while not seen:  # its client has the last event before, and another session's turn does not wait for it
            await asyncio.sleep(0.01)
        await chat(client, "test", "hi")
    assert seen == [("completed", "", "done"), ("failed", "internal_error", "error")]


async def test_actor_acted() -> None:
    seen: list[Action] = []
    engines: set[Engine] = set()

    async def actor_acted(engine: Engine, action: Action) -> None:
        seen.append(action)
        engines.add(engine)

    observer = plugin(actor_acted=actor_acted)
    async with served_engine(observer, providing(ScriptedProvider([MessageDelta(content="hi")]))) as (running, client):
        await scripted_schema(running)
        await chat(client, "test", "hi")
        await client.get("/api/v1/agents/test")
        assert (await client.put("/api/v1/agents/test", json={"max_steps": 0})).status_code == 400
        assert not seen
        answer = await client.patch("/api/v1/agents/test", json={"max_steps": 7})
        assert (len(seen), engines) == (1, {running})
        await client.delete("/api/v1/agents/test", headers={"authorization": "Bearer nobody"})
    [action, refusal] = seen
    assert (action.name, action.resource) == ("agent.update", "PATCH /api/v1/agents/test")
    assert (action.resource_type, action.resource_id, action.status) == ("agent", "test", 200)
    assert (action.actor.name, action.client) == ("bootstrap-admin", "127.0.0.1")
    assert action.request_id == answer.headers["x-request-id"]
    assert action.before is not None
    assert action.before["max_steps"] != 7
    assert action.after == answer.json()
    assert (refusal.name, refusal.status, refusal.actor) == ("auth.fail", 401, ANYONE)
    assert refusal.reason


async def test_request_answered() -> None:
    seen: list[tuple[str, str, int]] = []

    async def request_answered(engine: Engine, method: str, path: str, status: int, seconds: float) -> None:
        assert 0 < seconds < 10
        seen.append((method, path, status))

    async with served_engine(plugin(request_answered=request_answered)) as (_, client):
        await client.get("/api/v1/agents/nobody")
        await client.get("/api/v1/agents", headers={"authorization": ""})
        await client.delete("/api/v1/health")
        await client.get("/nowhere")
    assert seen == [
        ("GET", "/api/v1/agents/{name}", 404),
        ("GET", "/api/v1/agents", 401),
        ("DELETE", "/api/v1/health", 405),
        ("GET", "", 404),
    ]


async def test_startup() -> None:
    seen: list[int] = []

    async def startup(engine: Engine) -> None:
        await engine.offer({"models": [{"name": "duck", "type": "demo", "model_name": "demo"}]})
        seen.append(await engine.db.read(lambda conn: conn.execute("select count(*) from models").fetchone()[0]))

    settings = {"BYTEBREW_DISABLED_PLUGINS": "demo"}
    provider = providing(ScriptedProvider([]))
    async with served_engine(plugin(startup=startup), provider, settings=settings) as (_, client):
        assert seen == [1]
        assert [model["name"] for model in (await client.get("/api/v1/models")).json()] == ["duck"]


async def test_shutdown(tmp_path: Path) -> None:
    async def shutdown(engine: Any) -> None:
        assert engine.runner.draining
        await engine.db.write(lambda conn: conn.execute("create table goodbye (word text)").rowcount)

    async with engine(plugin(shutdown=shutdown), data=tmp_path):
        pass
    async with engine(data=tmp_path) as running:
        assert await running.db.read(lambda conn: conn.execute("select count(*) from goodbye").fetchone()[0]) == 0


@pytest.mark.parametrize("fault", [ValueError("the duck is ill"), asyncio.CancelledError(), None], ids=type)
@pytest.mark.parametrize("hook", ["turn_started", "tool_finished", "turn_finished", "request_answered", "shutdown"])
async def test_an_observer_that_fails_or_hangs_is_logged_with_its_plugin_and_breaks_nothing(
    hook: str, fault: BaseException | None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bytebrew.observers.OBSERVER_SECONDS", 5 if fault else 0.5)

    async def broken() -> None:
        if fault is not None:
            raise fault
        try:
            await anyio.sleep_forever()
        finally:
            await anyio.sleep_forever()

    seen: list[str] = []

    async def well() -> None:
        seen.append(hook)

    provider = ScriptedProvider([ToolCall("quack", {})], [MessageDelta(content="all is well")])
    duck = plugin("duck", **{hook: broken}, register_tools=lambda register: register(quack))
    goose = plugin("goose", **{hook: well})
    async with served_engine(duck, goose, providing(provider)) as (running, client):
        await scripted_schema(running, tools=("quack",))
        events = await chat(client, "test", "hi")
    assert events[-1].event == "done"
    assert seen == [hook]
    failed = [record for record in caplog.records if record.exc_info]
    assert [record.getMessage() for record in failed] == [f"plugin duck failed in {hook}"]
    told = {ValueError: "ValueError", asyncio.CancelledError: "RuntimeError", type(None): "TimeoutError"}[type(fault)]
    assert f"\n{told}" in caplog.text
