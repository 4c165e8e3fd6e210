"""The detector of blocking calls fails a test whose engine makes one, and no other."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bytebrew.testing import served_engine
from tests.blocking import refused

SOURCE = """
import ast, asyncio, os, socket, subprocess, time
from contextlib import suppress
from pathlib import Path
from bytebrew import Route, hookimpl

async def run(request):
    WORK
    return {}

@hookimpl
def register_routes(register):
    register(Route(method="GET", path="/planted", scope=None, run=run, summary="Blocks, or not"))
"""


def planted(work: str) -> tuple[str, Any]:
    """A plugin with a route that does this; its file is no test's."""
    names: dict[str, Any] = {}
    exec(compile(SOURCE.replace("WORK", work), "/somewhere/planted.py", "exec"), names)
    return "planted", SimpleNamespace(**names)


@pytest.mark.parametrize(
    ("work", "event"),
    [
        ("time.sleep(0.001)", "time.sleep"),
        ("Path('/etc/hostname').read_bytes()", "open"),
        ("subprocess.run(['true'])", "subprocess.Popen"),
        ("socket.getaddrinfo('127.0.0.1', 80)", "socket.getaddrinfo"),
        ("with socket.socket() as one: one.connect_ex(('127.0.0.1', 1))", "socket.connect"),
        ("os.listdir('/')", "os.listdir"),
    ],
)
async def test_a_blocking_call_of_a_route_fails_the_test(work: str, event: str) -> None:
    async with served_engine(planted(work)) as (_, client):
        with pytest.raises(pytest.fail.Exception, match=event) as failed, refused():
            assert (await client.get("/planted")).status_code == 200
        assert "planted.py:8 run" in str(failed.value)


@pytest.mark.parametrize(
    "work",
    [
        "await asyncio.sleep(0.001)",
        "await asyncio.to_thread(Path('/etc/hostname').read_bytes)",
        "await (await asyncio.create_subprocess_exec('true')).wait()",
        "Path('/proc/self/stat').read_bytes()",
        "with suppress(SyntaxError): ast.parse('x = (1')",
    ],
)
async def test_what_does_not_block_fails_none(work: str) -> None:
    async with served_engine(planted(work)) as (_, client):
        with refused():
            assert (await client.get("/planted")).status_code == 200


async def test_a_test_may_block_itself() -> None:
    async with served_engine() as (_, client):
        with refused():
            Path(__file__).read_bytes()
            assert (await client.get("/api/v1/health")).status_code == 200
