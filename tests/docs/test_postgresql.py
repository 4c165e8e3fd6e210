"""The commands of the page about PostgreSQL work as they stand, but for the server's address."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bytebrew.testing.postgres import programs, shared_server
from tests.commands import BYTEBREW, environment
from tests.docs import ROOT
from tests.docs.shop import commands
from tests.store.moving.places import NEWEST, upgraded
from tests.upgrades.conftest import old_data, unpacked

__all__ = ["old_data", "unpacked"]
pytestmark = pytest.mark.postgresql
PAGE = "how-to/postgresql.md"
NAME = "shop_of_the_page"


def sql(heading: str) -> list[str]:
    section = (ROOT / "docs" / PAGE).read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"```sql\n(.*?)```", section, re.DOTALL)


def test_a_database_is_created_filled_dumped_and_left(old_data: Callable[[str], Path], tmp_path: Path) -> None:
    server, data = shared_server(), upgraded(old_data(NEWEST)).data
    role_and_database, extension = sql("Create the database")
    for statement in role_and_database.replace("bytebrew", NAME).split(";\n"):
        server.execute(statement) if statement else None
    server.execute(extension, NAME)
    address = f"postgresql://{NAME}@127.0.0.1:{server.port}/{NAME}"
    settings = {"BYTEBREW_DATA_DIR": str(data), "BYTEBREW_PORT": "0"}
    path = f"{Path(BYTEBREW[0]).parent}:{programs()}:{os.environ['PATH']}"

    def run(command: str, **more: str) -> str:
        here = command.replace("postgresql://bytebrew@localhost/bytebrew", address)
        variables = environment(settings | more) | {"PATH": path, "PGPASSWORD": "change-me"}
        done = subprocess.run(["bash", "-euc", here], cwd=tmp_path, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "change-me" not in done.stdout + done.stderr
        return done.stdout

    there, back = commands(PAGE, "Move there and back")
    assert f"next: set BYTEBREW_DATABASE_URL=postgresql://***@127.0.0.1:{server.port}/{NAME}" in run(there)
    on_server = {"BYTEBREW_DATABASE_URL": address}
    [dump] = commands(PAGE, "Backups")
    run(dump, **on_server)
    assert (tmp_path / "bytebrew.dump").stat().st_size > 10_000
    [epoch] = sql("Backups")
    server.execute(epoch, NAME)
    assert "replay" in run(back, **on_server)
    assert {path.name for path in (tmp_path / "moved-back").iterdir()} >= {"bytebrew.db", "keys", "files"}
    [doctor] = commands(PAGE, "Set the address")
    (tmp_path / "moved-back" / "files").chmod(0o700)
    assert (
        "answers in"
        in subprocess.run(
            [*BYTEBREW, *doctor.split()[1:]],
            env=environment(settings | on_server) | {"PGPASSWORD": "change-me"},
            capture_output=True,
            text=True,
        ).stdout
    )
