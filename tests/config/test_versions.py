"""Versions of the configuration: one of each change, whatever made it, and a rollback that is exact."""

from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bytebrew.base.validation import plain_json
from bytebrew.config import import_export, versions
from bytebrew.config.validate import parse
from bytebrew.contract.connection import Connection
from bytebrew.engine import Engine
from bytebrew.store import retention
from bytebrew.store.configuration import versions as stored
from bytebrew.testing import client as client_of
from bytebrew.testing import engine as running
from tests.commands import run

API = "/api/v1"


async def numbers(client: httpx.AsyncClient, path: str) -> list[tuple[int, str, list[str], str]]:
    answer = await client.get(f"{API}/{path}/versions")
    assert answer.status_code == 200, answer.text
    return [(one["number"], one["action"], one["changed"], one["actor"]) for one in answer.json()["data"]]


async def put(client: httpx.AsyncClient, path: str, **fields: Any) -> None:
    answer = await client.put(f"{API}/{path}", json=fields)
    assert answer.status_code == 200, answer.text


async def roll_back(client: httpx.AsyncClient, path: str, version: int, status: int = 200) -> dict[str, Any]:
    answer = await client.post(f"{API}/{path}/rollback", json={"version": version})
    assert answer.status_code == status, answer.text
    return dict(answer.json())


async def test_each_change_keeps_the_one_before_with_who_and_what() -> None:
    async with running() as engine, client_of(engine) as client:
        await client.post(f"{API}/agents", json={"name": "a", "system": "one"})
        await put(client, "agents/a", system="two", max_steps=3)
        await put(client, "agents/a", system="two", max_steps=3)  # changes nothing
        await client.post(f"{API}/agents/a/capabilities", json={"type": "memory"})
        found = await numbers(client, "agents/a")
        assert [one[:3] for one in found[:2]] == [
            (3, "update", ["capabilities"]),
            (2, "update", ["system", "max_steps"]),
        ]
        assert [one[1] for one in found] == ["update", "update", "create"]
        assert {one[3] for one in found} == {"bootstrap-admin"}
        first = (await client.get(f"{API}/agents/a/versions/1")).json()
        assert first["content"]["system"] == "one"
        difference = (await client.get(f"{API}/agents/a/versions/2/diff")).json()
        assert difference["changes"][0] == {"field": "system", "before": "one", "after": "two"}
        assert (await client.get(f"{API}/agents/a/versions/3/diff?against=1")).json()["before"] == 1
        agent = (await client.get(f"{API}/agents/a")).json()
        assert await numbers(client, f"agents/{agent['id']}") == found


async def test_a_long_prompt_is_whole_in_a_version() -> None:
    async with running() as engine, client_of(engine) as client:
        await client.post(f"{API}/agents", json={"name": "a", "system": "x" * 150_000})
        assert len((await client.get(f"{API}/agents/a/versions/1")).json()["content"]["system"]) == 150_000


async def test_pages_of_versions_lead_to_the_next() -> None:
    async with running() as engine, client_of(engine) as client:
        await client.post(f"{API}/agents", json={"name": "a"})
        for n in range(4):
            await put(client, "agents/a", max_steps=n + 1)
        page = (await client.get(f"{API}/agents/a/versions?limit=2")).json()
        assert ([one["number"] for one in page["data"]], page["total"], page["next"]) == ([5, 4], 5, "2")
        page = (await client.get(f"{API}/agents/a/versions?limit=2&after=4")).json()
        assert ([one["number"] for one in page["data"]], page["next"]) == ([1], None)


async def test_a_rollback_is_a_new_version_with_the_content_of_an_old_one() -> None:
    async with running() as engine, client_of(engine) as client:
        await client.post(f"{API}/agents", json={"name": "a", "system": "one"})
        await put(client, "agents/a", system="two")
        made = await roll_back(client, "agents/a", 1)
        assert (made["number"], made["action"], made["restores"], made["changed"]) == (3, "rollback", 1, ["system"])
        assert (made["differs"], made["content"]["system"]) == ([], "one")
        assert (await client.get(f"{API}/agents/a")).json()["system"] == "one"
        assert (await roll_back(client, "agents/a", 1))["number"] == 3  # it is so already
        entries = (await client.get(f"{API}/audit?action=agent.rollback")).json()["data"]
        assert [one["resource"] for one in entries] == [f"POST {API}/agents/a/rollback"] * 2
        assert "version 9 of 'a'" in (await roll_back(client, "agents/a", 9, 404))["message"]


async def test_a_deleted_item_has_its_versions_and_comes_back() -> None:
    async with running() as engine, client_of(engine) as client:
        await client.post(f"{API}/agents", json={"name": "a", "system": "one", "confirm_before": ["x"]})
        await client.post(f"{API}/agents/a/capabilities", json={"type": "memory", "config": {"max_entries": 7}})
        await client.delete(f"{API}/agents/a")
        assert [one[1] for one in await numbers(client, "agents/a")] == ["delete", "update", "create"]
        assert "is its deletion" in (await roll_back(client, "agents/a", 3, 422))["message"]
        assert (await roll_back(client, "agents/a", 2))["number"] == 4
        agent = (await client.get(f"{API}/agents/a")).json()
        assert (agent["system"], agent["capabilities"][0]["config"]["max_entries"]) == ("one", 7)
        assert (await client.get(f"{API}/agents/nobody/versions")).status_code == 404


async def test_a_rollback_to_what_is_gone_is_refused_in_words() -> None:
    async with running() as engine, client_of(engine) as client:
        for name in ("a", "b"):
            await client.post(f"{API}/agents", json={"name": name})
        await client.post(f"{API}/schemas", json={"name": "s", "entry_agent": "a"})
        await put(client, "schemas/s", entry_agent="b")
        await client.delete(f"{API}/agents/a")
        refused = await roll_back(client, "schemas/s", 1, 422)
        assert refused["message"] == "'s' cannot be as it was: There is no agent 'a'"
        assert refused["details"][0]["path"] == "$.entry_agent"
        assert (await client.get(f"{API}/schemas/s")).json()["entry_agent"] == "b"
        assert len(await numbers(client, "schemas/s")) == 2


async def test_a_credential_is_in_no_version_and_stays_at_a_rollback() -> None:
    async with running() as engine, client_of(engine) as client:
        model = {"name": "m", "type": "anthropic", "model_name": "one", "api_key": "sk-first-000000000000"}
        await client.post(f"{API}/models", json=model)
        await put(client, "models/m", model_name="two")
        await put(client, "models/m", api_key="sk-second-00000000000")
        assert (await numbers(client, "models/m"))[0][:3] == (3, "update", ["api_key"])
        made = await roll_back(client, "models/m", 1)
        assert (made["differs"], made["content"]["api_key"], made["content"]["model_name"]) == (
            ["api_key"],
            "***",
            "one",
        )
        model = await engine.db.read(lambda conn: plain_json(engine.sections["models"].read(conn, engine, "m")))
        assert model["api_key"] == "sk-second-00000000000"
        tool = {"name": "t", "url": "http://x.test/", "auth": {"type": "bearer", "token": "first-secret"}}
        await client.post(f"{API}/tools", json=tool)
        await put(client, "tools/t", description="two")
        await roll_back(client, "tools/t", 1)
        secrets = ("first-000", "second-000", "first-secret")
        dump = await engine.db.read(lambda conn: repr([tuple(row) for row in conn.execute("select * from versions")]))
        assert not [one for one in secrets if one in dump]


async def test_versions_of_a_plugins_section_come_for_nothing() -> None:
    async with running() as engine, client_of(engine) as client:
        await client.post(f"{API}/agents", json={"name": "a"})
        await client.post(f"{API}/schedules", json={"name": "s", "cron": "0 9 * * *", "agent": "a"})
        await put(client, "schedules/s", title="two")
        await roll_back(client, "schedules/s", 1)
        assert [one[1] for one in await numbers(client, "schedules/s")] == ["rollback", "update", "create"]
        assert (await client.get(f"{API}/schedules/s")).json()["title"] == ""
        await client.post(f"{API}/knowledge-bases", json={"name": "k"})
        base = (await client.get(f"{API}/knowledge-bases/k")).json()["id"]
        await put(client, f"knowledge-bases/{base}", name="other")
        assert [one[:2] for one in await numbers(client, f"knowledge-bases/{base}")] == [(2, "rename"), (1, "create")]
        await client.post(f"{API}/knowledge-bases/{base}/agents/a")
        assert (await numbers(client, "agents/a"))[0][1:3] == ("update", ["capabilities"])


async def test_an_import_the_boot_the_command_line_and_an_offer_make_versions(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("agents: {a: {system: boot}}\n")
    data = tmp_path / "data"
    async with running(data=data, settings={"BYTEBREW_CONFIG": str(file)}) as engine, client_of(engine) as client:
        assert (await numbers(client, "agents/a"))[0][1:4:2] == ("create", "operator")
        await client.post(f"{API}/config/import", content="agents: {a: {system: imported}}\n")
        await client.post(f"{API}/config/import", content="agents: {a: {system: imported}}\n")
        await client.post(f"{API}/config/import?dry_run=true", content="agents: {a: {system: dry}}\n")
        assert [one[3] for one in await numbers(client, "agents/a")] == ["bootstrap-admin", "operator"]
    file.write_text("agents: {a: {system: command}}\n")
    result = run("config", "import", str(file), settings={"BYTEBREW_DATA_DIR": str(data)})
    assert result.returncode == 0, result.stderr
    async with running(data=data) as engine, client_of(engine) as client:
        assert [one[3] for one in await numbers(client, "agents/a")] == ["operator", "bootstrap-admin", "operator"]


async def test_what_is_offered_to_an_empty_engine_is_a_first_version() -> None:
    async with running() as engine, client_of(engine) as client:
        for path in ("agents/demo", "schemas/demo", "models/demo"):
            assert [one[:2] + one[3:] for one in await numbers(client, path)] == [(1, "create", "engine")]


async def test_a_change_that_is_refused_makes_no_version() -> None:
    async with running() as engine, client_of(engine) as client:
        await client.post(f"{API}/agents", json={"name": "a"})
        assert (await client.put(f"{API}/agents/a", json={"max_steps": 0})).status_code == 400
        bad = "agents: {a: {system: other}}\nschemas: {s: {entry_agent: nobody}}\n"
        assert (await client.post(f"{API}/config/import", content=bad)).status_code == 400
        assert len(await numbers(client, "agents/a")) == 1


async def test_another_default_model_is_a_version_of_both() -> None:
    async with running() as engine, client_of(engine) as client:
        await client.post(f"{API}/models", json={"name": "m", "type": "demo", "model_name": "m"})
        await put(client, "models/m", is_default=True)
        assert (await numbers(client, "models/demo"))[0][1:3] == ("update", ["is_default"])
        made = await roll_back(client, "models/demo", 1)
        assert made["content"]["is_default"] is True
        assert (await roll_back(client, "models/demo", 2))["differs"] == ["is_default"]


async def test_a_turn_says_which_version_of_its_agent_answered() -> None:
    async with running() as engine, client_of(engine) as client:
        body = {"message": "Hi", "stream": False}
        first = (await client.post(f"{API}/schemas/demo/chat", json=body)).json()
        await put(client, "agents/demo", max_steps=9)
        second = (await client.post(f"{API}/schemas/demo/chat", json=body)).json()
        assert (first["agent_version"], second["agent_version"]) == (1, 2)
        turn = f"{API}/sessions/{first['session_id']}/turns/{first['turn_id']}"
        assert (await client.get(turn)).json()["agent_version"] == 1


async def test_old_and_many_versions_go_but_never_the_newest() -> None:
    async with running() as engine, client_of(engine) as client:
        await put(client, "settings/versions.most", value=3)
        await client.post(f"{API}/agents", json={"name": "a"})
        for n in range(5):
            await put(client, "agents/a", max_steps=n + 1)
        assert [one[0] for one in await numbers(client, "agents/a")] == [6, 5, 4]
        await put(client, "settings/versions.most", value=2)
        await client.post(f"{API}/agents", json={"name": "gone"})
        await client.delete(f"{API}/agents/gone")

        def age(conn: Connection) -> None:
            conn.execute("update versions set moment = '2001-01-01T00:00:00Z'")

        async def swept() -> list[int]:
            while await engine.db.write(lambda conn: retention.expire_versions(conn).done):
                pass
            return [one[0] for one in await numbers(client, "agents/a")]

        assert await swept() == [6, 5]
        await engine.db.write(age)
        assert await swept() == [6]
        assert (await client.get(f"{API}/agents/gone/versions")).status_code == 404
        assert (await client.get(f"{API}/agents/a/versions/4")).status_code == 404


async def test_a_file_of_an_older_engine_keeps_what_was_there(tmp_path: Path) -> None:
    async with running(data=tmp_path) as engine, client_of(engine) as client:
        await client.post(f"{API}/agents", json={"name": "a", "system": "old"})

        def forget(conn: Connection) -> None:
            conn.execute("delete from versions")
            conn.execute("insert into changed_items select 'agents', name from agents")

        await engine.db.write(forget)
    async with running(data=tmp_path) as engine, client_of(engine) as client:
        await put(client, "agents/a", system="new")
        assert [one[1:4:2] for one in await numbers(client, "agents/a")] == [
            ("update", "bootstrap-admin"),
            ("create", "engine"),
        ]
        assert (await client.get(f"{API}/agents/a/versions/1")).json()["content"]["system"] == "old"


TEXT = st.text("ab \n$é\"'\\:#-*", max_size=20)
NAMES = st.lists(st.sampled_from(["x", "y", "z"]), max_size=3, unique=True)
CONFIG = st.dictionaries(
    st.text("ab", min_size=1, max_size=2), st.none() | st.integers(-9, 9) | TEXT | NAMES, max_size=2
)
MEMORY = st.fixed_dictionaries(
    {
        "type": st.just("memory"),
        "config": st.fixed_dictionaries({}, optional={"max_entries": st.integers(1, 99)}),
        "enabled": st.booleans(),
    }
)
ITEMS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "agents": st.fixed_dictionaries(
        {},
        optional={
            "description": TEXT,
            "system": TEXT,
            "model": st.none() | st.just("demo"),
            "max_steps": st.integers(1, 9),
            "temperature": st.none() | st.floats(0, 2),
            "max_tokens": st.none() | st.integers(1, 9),
            "tools": NAMES,
            "stop_sequences": st.lists(st.text("ab", min_size=1, max_size=3), max_size=2),
            "confirm_before": NAMES,
            "can_spawn": NAMES,
            "mcp_servers": NAMES,
            "lifecycle": st.sampled_from(["persistent", "spawn"]),
            "capabilities": st.lists(MEMORY, max_size=1),
            "summary_keep": st.integers(0, 9),
            "summary_model": st.none() | st.sampled_from(["demo", "gone"]),
            "response_format": st.none() | st.builds(dict, type=st.just("json_schema"), schema=st.just({"const": 1.5})),
        },
    ),
    "schemas": st.fixed_dictionaries(
        {"entry_agent": st.sampled_from(["one", "two"])},
        optional={
            "description": TEXT,
            "chat_enabled": st.booleans(),
            "client_tools": st.booleans(),
            "view": st.sampled_from(["full", "public"]),
            "approvals": st.sampled_from(["text", "client_tool"]),
            "relations": st.lists(
                st.fixed_dictionaries(
                    {"source": st.just("one"), "target": st.sampled_from(["two", "three"]), "config": CONFIG}
                ),
                max_size=2,
                unique_by=lambda one: str(one["target"]),
            ),
        },
    ),
    "models": st.fixed_dictionaries(
        {"type": st.just("ollama"), "model_name": st.sampled_from("abc")},
        optional={
            "base_url": st.sampled_from(["", "http://x.test"]),
            "pricing_input": st.none() | st.floats(0, 9),
            "fallback": st.lists(st.just("demo"), max_size=1),
        },
    ),
    "tools": st.fixed_dictionaries(
        {"url": st.sampled_from(["http://x.test/{{q}}", "http://y.test/"])},
        optional={
            "description": TEXT,
            "method": st.sampled_from(["GET", "POST"]),
            "params": st.dictionaries(st.sampled_from("ab"), st.just("{{q}}") | st.integers(0, 9), max_size=2),
        },
    ),
    "schedules": st.fixed_dictionaries(
        {"cron": st.sampled_from(["0 9 * * *", "5 4 * * *"]), "agent": st.just("one")},
        optional={"title": TEXT, "enabled": st.booleans(), "missed": st.sampled_from(["skip", "once"])},
    ),
    "rate_limits": st.fixed_dictionaries(
        {
            "per": st.just("token"),
            "default_tier": st.just("all"),
            "tiers": st.fixed_dictionaries(
                {"all": st.fixed_dictionaries({"requests": st.integers(1, 9)})},
                optional={"few": st.fixed_dictionaries({"requests": st.integers(1, 9)})},
            ),
        }
    ),
    "knowledge": st.fixed_dictionaries(
        {}, optional={"description": TEXT, "agents": st.lists(st.sampled_from(["one", "two"]), unique=True)}
    ),
    "mcp_servers": st.fixed_dictionaries(
        {"url": st.sampled_from(["http://x.test/a", "http://x.test/b"]), "enabled": st.just(False)},
        optional={
            "allow_tools": st.none() | NAMES,
            "deny_tools": NAMES,
            "forward_headers": st.lists(st.sampled_from(["X-A", "X-B"]), unique=True),
        },
    ),
    "budgets": st.fixed_dictionaries(
        {"window": st.sampled_from(["day", "month"]), "tokens": st.integers(1, 9)},
        optional={"soft": st.sampled_from([0.5, 0.9])},
    ),
    "callbacks": st.fixed_dictionaries(
        {
            "url": st.sampled_from(["https://example.com/a", "https://example.com/b"]),
            "events": st.lists(st.sampled_from(["turn.failed", "task.ended"]), min_size=1, unique=True),
            "secret": st.just("${HOOK_SECRET}"),
        },
        optional={"enabled": st.booleans()},
    ),
    "webhooks": st.fixed_dictionaries(
        {"agent": st.just("one"), "secret": st.just("${HOOK_SECRET}")},
        optional={"title": TEXT, "message": TEXT, "enabled": st.booleans()},
    ),
}


@pytest.mark.parametrize("key", sorted(ITEMS))
async def test_after_a_rollback_an_item_is_exported_as_it_was(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", "whsec_YSBzZWNyZXQgb2YgdGhpcnR5LXR3byBieXRlcyBub3c=")
    async with running() as engine:
        others: dict[str, Any] = {"agents": {"one": {}, "two": {}, "three": {}}}
        await import_export.take_in(engine, msgspec.json.encode(others))
        section, taken = engine.sections[key], iter(range(10**6))

        def exported(conn: Connection, name: str) -> Any:
            return plain_json(section.read(conn, engine, name))

        def change(conn: Connection, name: str, item: dict[str, Any]) -> None:
            whole = {name: section.completed(item)}
            file = parse(msgspec.json.encode({key: whole}), engine.sections, engine.dialects)
            import_export.apply(conn, engine, file)

        def tried(conn: Connection, items: list[dict[str, Any]], data: st.DataObject) -> None:
            name, states = f"n{next(taken)}", dict[int, Any]()
            for item in items:
                change(conn, name, item)
                newest = stored.newest_of(conn, key, name)
                assert newest is not None
                assert states.setdefault(newest.n, exported(conn, name)) == exported(conn, name)
            for _ in range(3):
                n = data.draw(st.sampled_from(sorted(states)))
                made = versions.roll_back(conn, engine, engine.sections, import_export.OPERATOR, key, name, n)
                assert (exported(conn, name), made.differs) == (states[n], ())
                states[made.number] = states[n]
            section.delete(conn, engine, name)
            versions.roll_back(conn, engine, engine.sections, import_export.OPERATOR, key, name, n)
            assert exported(conn, name) == states[n]
            assert "name" not in exported(conn, name)

        def examples(conn: Connection) -> None:
            @settings(
                max_examples=25,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(st.lists(ITEMS[key], min_size=2, max_size=4), st.data())
            def each(items: list[dict[str, Any]], data: st.DataObject) -> None:
                conn.execute("savepoint example")
                tried(conn, items, data)
                conn.execute("rollback to example")

            each()

        await engine.db.write(examples)


def test_every_section_with_named_items_is_among_those(tmp_path: Path) -> None:
    engine = Engine({"BYTEBREW_DATA_DIR": str(tmp_path)})
    assert {*versions.versioned(engine.sections)} == {*ITEMS}
