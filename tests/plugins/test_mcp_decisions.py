"""What people decide about tools of MCP servers: approved or kept withheld, by whom, and since when a tool waits."""

from pathlib import Path
from typing import Any

from bytebrew_mcp import sightings

from bytebrew import Person
from tests.plugins.test_mcp import PATH, world
from tests.plugins.test_mcp_faults import connected, until
from tests.plugins.test_mcp_pins import SECOND, THIRD, Desk, begin
from tests.tables import check_refusal

ECHO = f"{PATH}/double/tools/echo"


async def withhold(desk: Desk, **body: Any) -> Any:
    return await desk.w.client.post(f"{ECHO}/withhold", json=body)


async def test_a_tool_says_how_much_harm_it_can_do_who_has_it_and_since_when(tmp_path: Path) -> None:
    async with world() as w:
        desk = await begin(w, tmp_path)
        first = await desk.echo()
        assert (first["security_zone"], first["agents"], first["changed_at"]) == ("caution", ["test"], None)
        assert first["first_seen_at"].endswith("Z")
        changed = await desk.describe(SECOND)
        assert changed["first_seen_at"] == first["first_seen_at"] < changed["changed_at"]
        await w.client.patch(f"{PATH}/double", json={"deny_tools": ["echo"]})
        assert (await desk.echo())["agents"] == []


async def test_an_approval_has_its_time_and_its_person(tmp_path: Path) -> None:
    async with world() as w:
        desk = await begin(w, tmp_path)
        changed = await desk.describe(SECOND)
        assert (changed["approved"]["at"], changed["approved"]["by"]) == (None, None)
        await desk.approve(digest=changed["digest"])
        again = (await desk.describe(THIRD))["approved"]
        assert again["description"] == SECOND
        assert again["at"] > changed["changed_at"]
        assert again["by"].startswith("token:")


async def test_a_definition_that_is_kept_withheld_waits_no_more_until_the_next_change(tmp_path: Path) -> None:
    async with world() as w:
        desk = await begin(w, tmp_path)
        changed = await desk.describe(SECOND)
        assert changed["withheld"] is None
        answer = await withhold(desk, digest=changed["digest"])
        assert answer.status_code == 200
        kept = await desk.echo()
        assert (kept["state"], kept["withheld"]["by"][:6]) == ("withheld", "token:")
        assert (await desk.describe(THIRD))["withheld"] is None
        back = await desk.describe(SECOND)
        assert back["withheld"] == kept["withheld"]
        await desk.approve(digest=back["digest"])
        assert (await desk.echo())["state"] == "available"


async def test_only_what_waits_and_was_seen_can_be_withheld(tmp_path: Path) -> None:
    async with world() as w:
        desk = await begin(w, tmp_path)
        assert check_refusal(await withhold(desk))["error"] == "conflict"
        changed = await desk.describe(SECOND)
        await desk.describe(THIRD)
        assert check_refusal(await withhold(desk, digest=changed["digest"]))["error"] == "conflict"
        assert (
            check_refusal(await w.client.post(f"{PATH}/double/tools/nothing/withhold", json={}))["error"] == "not_found"
        )
        assert (await desk.echo())["withheld"] is None


async def test_times_and_decisions_outlive_the_connection(tmp_path: Path) -> None:
    async with world() as w:
        desk = await begin(w, tmp_path)
        changed = await desk.describe(SECOND)
        await withhold(desk, digest=changed["digest"])
        before = await desk.echo()
        answer = await w.client.post(f"{PATH}/double/reconnect")
        assert answer.status_code == 200
        await until(lambda: connected(w))
        assert await desk.echo() == before


async def test_a_server_that_fails_says_how_often_and_how(tmp_path: Path) -> None:
    async with world() as w:
        await w.add(command="/nonexistent/server", args=[])

        async def tried() -> bool:
            return bool((await w.get())["status"]["tries"])

        await until(tried)
        status = (await w.get())["status"]
        assert "/nonexistent/server" in status["last_error"]
        assert status["last_error_at"].endswith("Z")
        assert check_refusal(await w.client.post(f"{PATH}/nothing/reconnect"))["error"] == "not_found"


async def test_a_person_who_is_forgotten_has_decided_under_a_mask(tmp_path: Path) -> None:
    async with world() as w:
        desk = await begin(w, tmp_path)
        changed = await desk.describe(SECOND)
        await desk.approve(digest=changed["digest"])
        await withhold(desk, digest=(await desk.describe(THIRD))["digest"])
        by = (await desk.echo())["withheld"]["by"]
        person = Person(names=(by,), sessions=(), mask="deleted-1")
        found = await w.engine.db.read(sightings.decided_by, person)
        assert [(one["server"], one["tool"], one["decision"]) for one in found] == [
            ("double", "echo", "approved"),
            ("double", "echo", "withheld"),
        ]
        assert await w.engine.db.write(sightings.forget, person) == 2
        assert await w.engine.db.write(sightings.forget, person) == 0
        await w.client.post(f"{PATH}/double/reconnect")
        await until(lambda: connected(w))
        kept = await desk.echo()
        assert kept["withheld"]["by"] == kept["approved"]["by"] == "deleted-1"
