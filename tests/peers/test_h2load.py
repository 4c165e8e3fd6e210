"""A foreign client of HTTP/2 under load: what keeps floods away lets it do all that it wants."""

import asyncio
import re
from pathlib import Path

import pytest

from bytebrew.testing import served_engine

pytestmark = pytest.mark.peers

PEER = Path(__file__).parents[2] / ".cache/peers/h2load/usr"
LIBRARIES = ":".join(str(folder) for folder in PEER.glob("lib/*-linux-gnu*"))


# at once no more than the 16 MB that a connection may hold unsent: the answer has half a megabyte
@pytest.mark.parametrize(
    ("requests", "options"),
    [
        pytest.param(4000, ("-c", "2", "-m", "100"), id="small answers"),
        pytest.param(300, ("-c", "2", "-m", "10", "-w", "14", "-W", "15"), id="large answers through small windows"),
        pytest.param(200, ("-c", "1", "-m", "24"), id="large answers at once"),
    ],
)
async def test_all_requests_of_h2load_are_answered(requests: int, options: tuple[str, ...]) -> None:
    path = "health" if requests > 1000 else "openapi.json"
    async with served_engine() as (_, client):
        url = f"{client.base_url}/api/v1/{path}".replace("//api", "/api")
        running = await asyncio.create_subprocess_exec(
            *(str(PEER / "bin/h2load"), "-n", str(requests), *options, url),
            env={"LD_LIBRARY_PATH": LIBRARIES},
            stdout=asyncio.subprocess.PIPE,
        )
        output = (await running.communicate())[0].decode()
        assert (await client.get("/api/v1/health")).status_code == 200
    assert f"{requests} succeeded, 0 failed, 0 errored, 0 timeout" in output, output
    assert re.search(rf"status codes: {requests} 2xx", output), output
