"""PostgreSQL servers and databases for tests."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from bytebrew.testing import databases
from bytebrew.testing.postgres import IN_MEMORY, Server, server

pytestmark = pytest.mark.postgresql
USES = """
import sys
from bytebrew.testing.postgres import shared_server
server = shared_server()
print(server.port, server.folder, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    with server({"wal_level": "replica", "max_wal_senders": "5"}) as made:
        yield made


def user(run: str) -> "subprocess.Popen[str]":
    """A process that uses the shared server of a run until its input ends."""
    environment = {**os.environ, "PYTEST_XDIST_TESTRUNUID": run}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", USES], env=environment, stdin=pipe, stdout=pipe, text=True)


def ended(process: "subprocess.Popen[str]", how: signal.Signals) -> None:
    process.send_signal(how)
    process.communicate()


def test_processes_of_a_run_share_a_server_which_ends_with_the_last_of_them() -> None:
    run = f"{os.getpid()}-of-test"
    users = [user(run) for _ in range(3)]
    places = {process.stdout.readline() for process in users if process.stdout}
    assert len(places) == 1
    folder = Path(places.pop().split()[1])
    ended(users[0], signal.SIGKILL)
    ended(users[1], signal.SIGTERM)
    late = user(run)
    assert late.stdout is not None
    assert late.stdout.readline().split()[1] == str(folder)
    ended(users[2], signal.SIGKILL)
    assert folder.exists()
    ended(late, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while folder.exists():
        assert time.monotonic() < deadline, "the server outlives its users"
        time.sleep(0.01)


def test_engines_are_no_superusers_and_need_the_password(own: Server) -> None:
    with closing(psycopg.connect(own.url())) as conn:
        assert conn.execute("select usesuper from pg_user where usename = current_user").fetchone() == (False,)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(own.url().replace(own.password, "other"))


def test_a_killed_server_has_what_was_committed(own: Server) -> None:
    own.execute("create table if not exists kept (n int); insert into kept values (1)")
    with closing(psycopg.connect(own.url())) as conn:
        own.kill()
        with pytest.raises(psycopg.OperationalError):
            conn.execute("select 1")
    own.start()
    assert own.execute("select n from kept") == "1"


def test_a_standby_follows_and_takes_over() -> None:
    with server({"wal_level": "replica", "max_wal_senders": "5"}) as primary:
        primary.execute("create table kept (n int)")
        standby = primary.standby(primary.folder.with_name("standby")).start()
        try:
            primary.execute("alter system set synchronous_standby_names = '*'")
            primary.execute("select pg_reload_conf()")
            primary.execute("insert into kept values (1)")
            assert standby.execute("select pg_is_in_recovery()") == "t"
            primary.kill()
            standby.promote()
            standby.execute("insert into kept values (2)")
            assert standby.execute("select string_agg(n::text, ',') from kept") == "1,2"
        finally:
            standby.kill()


def test_a_data_folder_has_one_database_until_it_is_gone(tmp_path: Path) -> None:
    made = list[str]()
    first, second = tmp_path / "first", tmp_path / "second"

    def migrate() -> None:
        made.append("rows")
        with closing(psycopg.connect(databases.url_of(first), autocommit=True)) as conn:
            conn.execute("create table rows (n int)")

    databases.make(first, tmp_path.name, migrate)
    with closing(psycopg.connect(databases.url_of(first), autocommit=True)) as conn:
        conn.execute("insert into rows values (1)")
    first.mkdir()
    databases.make(second, tmp_path.name, migrate)
    databases.make(first, tmp_path.name, migrate)
    assert len(made) == 1
    for data, rows in ((first, 1), (second, 0)):
        with closing(psycopg.connect(databases.url_of(data))) as conn:
            assert conn.execute("select count(*) from rows").fetchone() == (rows,)
    first.rmdir()
    databases.make(first, tmp_path.name, migrate)
    with closing(psycopg.connect(databases.url_of(first))) as conn:
        assert conn.execute("select count(*) from rows").fetchone() == (0,)
    databases.drop(first)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(databases.url_of(first))


def test_a_server_that_cannot_start_says_why() -> None:
    with pytest.raises(RuntimeError, match="max_wal_senders"), server({**IN_MEMORY, "max_wal_senders": "many"}):
        pass
