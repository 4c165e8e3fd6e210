"""The hash chain of the audit: whatever is done to its entries by other means than the engine is found."""

from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from sqlite3 import OperationalError
from typing import Any

import httpx
import pytest
from bytebrew_audit import register_commands
from bytebrew_audit.chain import Chain
from bytebrew_audit.changes import CHANGES
from bytebrew_audit.personal_data import forget_changes
from click import Group
from click.testing import CliRunner

from bytebrew import Person
from bytebrew.cli.setup import Setup
from bytebrew.contract.connection import Connection
from bytebrew.engine import Engine
from bytebrew.plugins import Plugins
from bytebrew.store.sqlite.pragmas import connect
from bytebrew.testing import client as client_of
from bytebrew.testing import engine as running
from tests.commands import run
from tests.stored import changed

URL = "/api/v1/audit/verify"


async def act(client: httpx.AsyncClient, count: int) -> None:
    for n in range(count):
        await client.put("/api/v1/settings/custom.a", json={"value": n})


@pytest.fixture
async def served() -> AsyncIterator[tuple[Engine, httpx.AsyncClient]]:
    async with running() as engine, client_of(engine) as client:
        await act(client, 6)
        yield engine, client


Served = tuple[Engine, httpx.AsyncClient]


async def verified(served: Served) -> dict[str, Any]:
    answer = await served[1].get(URL)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_an_audit_that_only_the_engine_wrote_is_whole(served: Served) -> None:
    found = await verified(served)
    newest = (await served[1].get("/api/v1/audit?limit=1")).json()["data"][0]
    assert (found["intact"], found["entries"], found["broken"]) == (True, 6, None)
    assert (found["last"], found["hash"]) == (newest["id"], newest["hash"])


SPLICE = """insert into audit_changes select {}, timestamp, actor, actor_type, actor_id, action, resource,
  resource_type, resource_id, details, salt, commitment, masked, hash from audit_changes where id = 3"""


@pytest.mark.parametrize(
    ("sql", "entry"),
    [
        ("update audit_changes set actor = 'nobody' where id = 3", "3"),
        ("update audit_changes set details = replace(details, '200', '201') where id = 3", "3"),
        ("update audit_changes set action = 'other' where id = 3", "3"),
        ("update audit_changes set timestamp = '2001-01-01T00:00:00Z' where id = 3", "3"),
        ("update audit_changes set salt = '' where id = 3", "3"),
        ("update audit_changes set salt = '', masked = 'x', actor = 'forgotten' where id = 3", "3"),
        ("update audit_changes set hash = 'x' where id = 3", "3"),
        ("delete from audit_changes where id = 3", "4"),
        ("delete from audit_changes where id = 1", "2"),
        ("delete from audit_changes where id = 6", "6"),
        ("delete from audit_changes where id > 3", "6"),
        ("delete from audit_changes", "6"),
        ("update audit_changes set id = case id when 3 then 40 when 4 then 30 end where id in (3, 4)", "5"),
        (SPLICE.format(7), "7"),
        (SPLICE.format(0), "0"),
        ("delete from audit_chain", None),
        ("update audit_chain set last_id = 3, last_hash = (select hash from audit_changes where id = 3)", None),
    ],
)
async def test_whatever_is_done_to_its_entries_is_found_and_stays_so(
    sql: str, entry: str | None, served: Served
) -> None:
    await served[0].db.write(lambda conn: conn.execute(sql) and None)
    found = await verified(served)
    assert not found["intact"]
    assert found["broken"]["entry"] == entry, found
    await act(served[1], 2)  # what the engine writes after it covers nothing up
    assert (await verified(served))["broken"]["entry"] in (entry, "7")


async def test_truncation_with_an_end_that_is_made_up_is_found(served: Served) -> None:
    def truncate(conn: Connection) -> None:
        conn.execute("delete from audit_changes where id > 3")
        conn.execute(
            "update audit_chain set last_id = 3, last_hash = (select max(hash) from audit_changes where id = 3)"
        )

    await served[0].db.write(truncate)
    await act(served[1], 3)
    assert "signature" in (await verified(served))["broken"]["reason"]


async def test_retention_moves_the_beginning_and_the_rest_is_verified(served: Served) -> None:
    engine, client = served
    await client.put("/api/v1/settings/retention.audit", json={"value": 30})

    chain = engine.state[CHANGES].chain
    await engine.db.write(lambda conn: chain.expire(conn, "2001"))
    assert (await verified(served))["entries"] == 7
    last = (await client.get("/api/v1/audit?limit=1")).json()["data"][0]["timestamp"]
    gone = await engine.db.write(lambda conn: chain.expire(conn, last))
    found = await verified(served)
    assert (found["intact"], found["entries"]) == (True, 7 - len(gone))
    assert len(gone) >= 1


@pytest.mark.parametrize("sql", ["timestamp = '2001-01-01T00:00:00Z' where id < 5", "hash = 'x' where id = 4"])
async def test_retention_does_not_cover_up_entries_that_were_changed(sql: str, served: Served) -> None:
    chain = served[0].state[CHANGES].chain
    await served[0].db.write(lambda conn: conn.execute(f"update audit_changes set {sql}") and None)
    until = (await served[1].get("/api/v1/audit?limit=1")).json()["data"][0]["timestamp"]
    await served[0].db.write(lambda conn: chain.expire(conn, until))
    await act(served[1], 2)
    assert not (await verified(served))["intact"]


async def test_a_mask_does_not_cover_up_an_entry_that_was_changed(served: Served) -> None:
    chain, person = served[0].state[CHANGES].chain, Person(("bootstrap-admin",), "forgotten-1", ())
    await served[0].db.write(
        lambda conn: conn.execute("update audit_changes set resource_id = 'other' where id = 3") and None
    )
    for _ in range(2):
        await served[0].db.write(lambda conn: forget_changes(chain, conn, person))
        assert (await verified(served))["broken"]["entry"] == "3"


async def test_changes_that_are_rolled_back_leave_the_chain_as_it_was(served: Served) -> None:
    def fail(conn: Connection) -> None:
        entry = dict.fromkeys(("timestamp", "actor", "actor_type", "actor_id", "action", "resource"), "x")
        served[0].state[CHANGES].chain.append(conn, {**entry, "resource_type": "", "resource_id": "", "details": "{}"})
        raise ValueError

    with pytest.raises(ValueError):
        await served[0].db.write(fail)
    await act(served[1], 1)
    assert (await verified(served))["entries"] == 7


async def test_a_person_is_masked_and_the_chain_stays_whole(served: Served) -> None:
    engine, client = served
    person, chain = Person(("bootstrap-admin",), "forgotten-1", ()), engine.state[CHANGES].chain
    assert await engine.db.write(lambda conn: forget_changes(chain, conn, person)) == 6
    assert await engine.db.write(lambda conn: forget_changes(chain, conn, person)) == 0
    found = await verified(served)
    assert (found["intact"], found["entries"], found["masked"]) == (True, 6, 6)
    entry = (await client.get("/api/v1/audit?limit=1")).json()["data"][0]
    assert (entry["actor"], entry["actor_id"], entry["action"]) == ("forgotten-1", "forgotten-1", "setting.update")
    await engine.db.write(lambda conn: conn.execute("update audit_changes set actor = 'x' where id = 2") and None)
    assert (await verified(served))["broken"]["entry"] == "2"


async def test_entries_of_an_older_engine_are_taken_into_the_chain(tmp_path: Path) -> None:
    async with running(data=tmp_path) as engine, client_of(engine) as client:
        await act(client, 3)

        def older(conn: Connection) -> None:
            conn.execute("delete from audit_chain")
            conn.execute("update audit_changes set hash = '', salt = '', commitment = ''")

        await engine.db.write(older)
    async with running(data=tmp_path) as engine, client_of(engine) as client:
        await act(client, 1)
        found = await verified((engine, client))
        assert (found["intact"], found["entries"]) == (True, 4)


async def test_the_command_verifies_a_folder_and_names_the_first_broken_entry(tmp_path: Path) -> None:
    async with running(data=tmp_path) as engine, client_of(engine) as client:
        await act(client, 3)
    settings = {"BYTEBREW_DATA_DIR": str(tmp_path)}
    done = run("audit", "verify", settings=settings)
    assert (done.returncode, done.stdout.split(" since ")[0]) == (0, "3 entries"), done.stderr
    with changed(tmp_path) as conn:
        conn.execute("delete from audit_changes where id = 2")
    done = run("audit", "verify", settings=settings)
    assert done.returncode == 1
    assert "broken after 1 entries: entry 3 does not follow" in done.stderr


@pytest.mark.sqlite
async def test_the_command_lets_an_engine_write_while_it_reads(tmp_path: Path) -> None:
    async with running(data=tmp_path) as engine, client_of(engine) as client:
        await act(client, 3)
    setup = Setup({"BYTEBREW_DATA_DIR": str(tmp_path)}, Plugins())
    written: list[bool] = []

    @contextmanager
    def opened(*, may_create: bool = False) -> Iterator[tuple[Engine, Connection]]:
        with closing(connect(tmp_path / "bytebrew.db")) as other, setup.opened() as (engine, conn):
            other.execute("pragma busy_timeout = 0")

            def write() -> None:
                with suppress(OperationalError):
                    other.execute("begin immediate")
                    other.execute("rollback")
                    written.append(True)

            conn.set_progress_handler(write, 10)  # type: ignore[attr-defined]
            yield engine, conn
            conn.set_progress_handler(None, 0)  # type: ignore[attr-defined]

    cli = Group()
    register_commands(cli, opened)
    done = CliRunner().invoke(cli, ["audit", "verify"])
    assert done.output.startswith("3 entries"), done.output
    assert written


async def test_retention_waits_for_the_entries_of_an_older_engine(served: Served) -> None:
    engine, chain = served[0], served[0].state[CHANGES].chain

    def killed_in_the_first_batch(conn: Connection) -> None:
        conn.execute("delete from audit_chain")
        conn.execute("update audit_changes set hash = '', salt = '', commitment = ''")
        conn.execute("create table later as select * from audit_changes where id > 3")
        conn.execute("delete from audit_changes where id > 3")
        chain.begin(conn)
        conn.execute("insert into audit_changes select * from later")

    await engine.db.write(killed_in_the_first_batch)
    broken = (await verified(served))["broken"]
    assert (broken["entry"], "the next start" in broken["reason"]) == ("4", True)
    for _ in range(2):
        await engine.db.write(lambda conn: chain.expire(conn, "9"))  # of bytebrew gc, or the engine's
        while await engine.db.write(chain.begin):
            pass
        assert (await verified(served))["intact"]


async def test_another_key_file_does_not_verify(served: Served, tmp_path: Path) -> None:
    other = Engine({"BYTEBREW_DATA_DIR": str(tmp_path)})

    def check(conn: Connection) -> Any:
        *_, last = Chain(other).verified(conn)
        return last.result

    result = await served[0].db.read(check)
    assert "key file" in result.broken.reason
