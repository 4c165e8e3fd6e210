"""The API by its own document: requests that schemathesis makes up, and a client that a public generator makes."""

import json
import os
import re
import subprocess
from pathlib import Path

import httpx
import pytest

from bytebrew.testing import ADMIN
from tests.local import proof_of
from tests.processes import serving

pytestmark = pytest.mark.peers

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".cache/peers"
DOCUMENT = "/api/v1/openapi.json"
CLIENT = """
import sys
from made import AuthenticatedClient
from made.api.agents import get_agents, get_agents_name, post_agents
from made.api.schemas import post_schemas_name_chat
from made.models import AgentDetail, ChatAnswer, ChatRequest, Error, NewAgent

client = AuthenticatedClient(base_url=sys.argv[1], token=sys.argv[2], raise_on_unexpected_status=True)
assert [agent.name for agent in get_agents.sync(client=client)] == ["demo"]
made = post_agents.sync(client=client, body=NewAgent(name="peer", model="demo", max_steps=3))
assert isinstance(made, AgentDetail) and made.max_steps == 3, made
assert {agent.name for agent in get_agents.sync(client=client)} == {"demo", "peer"}
again = post_agents.sync_detailed(client=client, body=NewAgent(name="peer"))
assert again.status_code == 409 and isinstance(again.parsed, Error) and again.parsed.error == "conflict", again
missing = get_agents_name.sync("nobody", client=client)
assert isinstance(missing, Error) and missing.error == "not_found", missing
said = post_schemas_name_chat.sync("demo", client=client, body=ChatRequest(message="Hello", stream=False))
assert isinstance(said, ChatAnswer) and said.message.startswith("You said: Hello"), said
print(said.usage.output_tokens)
"""


@pytest.mark.timeout(600)
def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    with serving(tmp_path / "data", {"BYTEBREW_MCP_STDIO": "off"}) as engine:
        # a session: an API token would be found in a list of tokens, and revoked
        session = httpx.post(f"{engine.url}/api/v1/auth/local-session", headers=proof_of(tmp_path / "data")).json()[
            "access_token"
        ]
        command = [str(CACHE / "schemathesis/bin/schemathesis"), "--config-file", str(HERE / "schemathesis.toml")]
        command += ["run", engine.url + DOCUMENT, "--header", f"Authorization: Bearer {session}", "--no-color"]
        command += ["--checks", "all", "--max-examples", "15", "--request-timeout", "20", "--continue-on-failure"]
        # one worker: it makes requests up from what it was answered, and so in the same order each time
        command += ["--generation-deterministic", "--workers", "1"]
        env = {**os.environ, "SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(HERE)}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=580)
        routes = sum(len(methods) for methods in httpx.get(engine.url + DOCUMENT).json()["paths"].values())
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    # it leaves out where it found the document, and its file of settings the feed and what would end its session
    assert f"Tested: {routes - 4}" in done.stdout
    refused = re.findall(r"^40[13] \w+ \(\d+ operations?\):\n((?:  - .*\n)+)", done.stdout, re.MULTILINE)
    assert sorted(refused) == ["  - POST /api/v1/auth/local-session\n", "  - POST /api/v1/webhooks/{name}\n"], (
        "they take proofs"
    )
    generated = re.search(r"(\d+) generated", done.stdout)
    assert generated is not None
    assert int(generated[1]) > 20 * routes


@pytest.mark.timeout(120)
def test_a_client_that_a_public_generator_makes_talks_to_the_engine(tmp_path: Path) -> None:
    folder = CACHE / "client/bin"
    with serving(tmp_path / "data") as engine:
        document = tmp_path / "openapi.json"
        document.write_bytes(httpx.get(engine.url + DOCUMENT).content)
        command = [str(folder / "openapi-python-client"), "generate", "--path", str(document), "--meta", "none"]
        env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
        made = subprocess.run(
            [*command, "--output-path", str(tmp_path / "made")], env=env, capture_output=True, text=True, timeout=60
        )
        assert made.returncode == 0, made.stdout + made.stderr
        assert "Unable to" not in made.stdout
        paths = json.loads(document.read_bytes())["paths"]
        named = {one["operationId"] for methods in paths.values() for one in methods.values()}
        written = {file.stem for file in (tmp_path / "made/api").glob("*/*.py")}
        assert named - written == {"post_webhooks_name"}  # its body is whatever its sender sends
        (tmp_path / "talk.py").write_text(CLIENT)
        done = subprocess.run(
            [folder / "python", tmp_path / "talk.py", engine.url, ADMIN], capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
