"""What an MCP server that is a command is given in confidence, and what of the engine it cannot see."""

import json
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from ruamel.yaml import YAML

from bytebrew.testing import ADMIN
from tests.commands import BYTEBREW, install
from tests.plugins.test_mcp import DOUBLE, PATH, stdio, world
from tests.plugins.test_mcp_faults import connected, until
from tests.processes import serving
from tests.stored import changed, everything
from tests.tables import check_refusal


def shell(*args: str, how: dict[str, Any] | None = None, **body: Any) -> dict[str, Any]:
    """The double with further arguments, which it pays no heed to."""
    made = stdio(how, **body)
    return made | {"args": [*made["args"], *args]}


SECRETS = ("--token", "hunter22-arg", "--key=hunter33-arg", "postgres://u:hunter44@db/x")


async def test_arguments_are_in_no_answer_no_log_no_entry_and_not_in_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    how = {"stderr": " ".join(SECRETS), "more_tools": [{"name": "argv", "inputSchema": {}}]}
    async with world(data=tmp_path) as w:
        made = await w.add(**shell(*SECRETS, how=how))
        assert made["args"] == ["***"] * 5
        texts = [json.dumps(made), json.dumps(await w.get())]
        await until(lambda: connected(w))
        texts.append((await w.ask("argv"))["output"])
        for method in ("PUT", "PATCH"):
            answer = await w.client.request(method, f"{PATH}/double", json={"args": made["args"]})
            texts.append(answer.text)
        for path in ("/api/v1/audit?per_page=100", "/api/v1/config/export", "/api/v1/tools/metadata", PATH):
            texts.append((await w.client.get(path)).text)
        dry = await w.client.post("/api/v1/config/import?dry_run=true", json={"mcp_servers": {"double": {"args": []}}})
        texts.append(dry.text)
        assert '"args"' in dry.text
    assert "hunter" not in "".join([*texts, caplog.text])
    assert "MCP server double: --token ***" in caplog.text
    assert b"hunter" not in everything(tmp_path)


@pytest.mark.parametrize(
    "args",
    [
        ("--header", "X-Api-Key: hunter55-part"),
        ("--header", "Authorization:Token hunter55-part"),
        ("-H", "Cookie: session hunter55-part"),
        ("--header=X-Api-Key:hunter55-part",),
        ("-HX-Api-Key: hunter55-part",),
    ],
)
async def test_what_an_argument_says_of_a_header_is_repeated_nowhere(
    args: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """A bridge to a remote server, as mcp-remote is, has the key in a header on its command line."""
    caplog.set_level(logging.INFO)
    how = {"stderr": "the key hunter55-part will not do"}
    async with world() as w:
        await w.add(**shell(*args, how=how))
        await until(lambda: connected(w))
        said = await w.ask("echo", text="the key hunter55-part will not do")
        seen = json.dumps(await w.get())
    assert "hunter" not in caplog.text + said["output"] + seen
    assert "MCP server double: the key *** will not do" in caplog.text


async def test_a_password_that_stands_at_its_option_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with world() as w:
        await w.add(**shell("-phunter66", how={"stderr": "no hunter66 here"}))
        await until(lambda: connected(w))
    assert "MCP server double: no *** here" in caplog.text


async def test_masked_arguments_keep_what_they_were_each_at_its_place() -> None:
    async with world() as w:
        made = await w.add(**shell("one", "two", how={"more_tools": [{"name": "argv", "inputSchema": {}}]}))

        async def argv() -> list[str]:
            found: list[str] = json.loads((await w.ask("argv"))["output"])
            return found

        assert await argv() == ["one", "two"]
        assert (await w.client.put(f"{PATH}/double", json={"args": made["args"]})).status_code == 200
        assert await argv() == ["one", "two"]
        changed = await w.client.patch(f"{PATH}/double", json={"args": ["***", "***", "2", "three"]})
        assert changed.json()["args"] == ["***"] * 4
        assert await argv() == ["one", "2", "three"]
        refused = await w.client.patch(f"{PATH}/double", json={"args": ["***"] * 5})
        assert check_refusal(refused)["details"] == [
            {"path": "$.args[4]", "message": "*** keeps a value, and there is none"}
        ]
        literal = await w.client.patch(f"{PATH}/double", json={"args": ["***", "${HOME}", "$${HOME}", "$"]})
        assert literal.status_code == 200
        assert await argv() == ["${HOME}", "$${HOME}", "$"]  # over REST a variable is text


async def test_a_file_names_arguments_by_variables_and_an_export_keeps_them_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEB_KEY", "hunter55-arg")
    env = {"MCP_DOUBLE": json.dumps({"more_tools": [{"name": "argv", "inputSchema": {}}]})}
    server = {"command": sys.executable, "args": [str(DOUBLE), "--key=${WEB_KEY}", "plain"], "env": env}
    async with world() as w:
        taken = await w.client.post("/api/v1/config/import", json={"mcp_servers": {"double": server}})
        assert taken.status_code == 200, taken.text
        assert not [one for one in taken.json()["warnings"] if "args" in one["path"]]
        await until(lambda: connected(w))
        wanted = ["--key=***", "plain"]
        assert json.loads((await w.ask("argv"))["output"]) == wanted
        exported = (await w.client.get("/api/v1/config/export")).text
        assert yaml_args(exported) == ["${DOUBLE_ARGS_0}", "${DOUBLE_ARGS_1}", "${DOUBLE_ARGS_2}"]
        again = await w.client.post("/api/v1/config/import", content=exported)
        assert again.status_code == 200, again.text
        assert [one["action"] for one in again.json()["changes"] if one["section"] == "mcp_servers"] == ["unchanged"]
        assert json.loads((await w.ask("argv"))["output"]) == wanted


def yaml_args(exported: str) -> list[str]:
    found: list[str] = YAML(typ="safe").load(exported)["mcp_servers"]["double"]["args"]
    return found


async def test_arguments_of_an_older_file_are_sealed_at_the_next_start(tmp_path: Path) -> None:
    async with world(data=tmp_path) as w:
        await w.add(**shell("hunter66-arg", "${HOME}", how={"more_tools": [{"name": "argv", "inputSchema": {}}]}))
    with changed(tmp_path) as conn:
        old = [f"plain:{one}" for one in (str(DOUBLE), "hunter66-arg", "${HOME}")]  # as the migration leaves them
        conn.execute("update mcp_servers set args = ?", (json.dumps(old),))
    async with world(data=tmp_path, again=True) as w:
        await until(lambda: connected(w))
        assert json.loads((await w.ask("argv"))["output"]) == ["hunter66-arg", "${HOME}"]
        stored = await w.engine.db.read(lambda conn: conn.execute("select args from mcp_servers").fetchone()[0])
        assert "hunter66" not in stored
        assert "plain:" not in stored


async def test_a_command_sees_a_short_list_of_variables_and_those_of_env(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "hunter77")
    monkeypatch.setenv("BYTEBREW_BOOTSTRAP_ADMIN_TOKEN", ADMIN)
    async with world() as w:
        await w.add(env={"PLACE": "/srv"})
        seen = json.loads((await w.ask("env"))["output"])
    known = {"PATH", "HOME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "USER", "LOGNAME"}
    own = {"PLACE", "MCP_DOUBLE", "PWD", "OLDPWD", "SHLVL", "_", "pid", "pgid"}  # some shells add their own
    assert set(seen) <= known | own
    assert "hunter77" not in json.dumps(seen)


async def test_a_command_has_no_descriptor_of_the_engines_and_works_outside_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with world(data=tmp_path) as w:
        await w.add(how={"more_tools": [{"name": "held", "inputSchema": {}}]})
        held = json.loads((await w.ask("held"))["output"])
    assert held["cwd"] == "/"
    kinds = sorted(target.partition(":")[0] for target in held["descriptors"].values())
    assert set(kinds) <= {"pipe", "socket", "anon_inode", "/dev/null"}, held
    assert (kinds.count("pipe"), kinds.count("socket")) == (4, 2)  # its streams and the leash; what its own loop makes
    assert not [target for target in held["descriptors"].values() if str(tmp_path) in target]


PEEK = """
from bytebrew import Provider, Stop, ToolCall, MessageDelta, hookimpl
import json

class Peeking(Provider):
    type = "peeking"

    async def stream(self, request, http):
        last = request.messages[-1]
        if last.role == "user":
            yield ToolCall("peek", json.loads(last.content))
        else:
            yield MessageDelta(content=last.content)
        yield Stop()

@hookimpl
def register_providers(register):
    register(Peeking())
"""
LOOKED_AT = ("environ", "mem", "maps", "fd/0")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux lets a process close its own memory")
async def test_a_command_reads_neither_environment_nor_memory_nor_descriptors_of_an_engine_of_its_own_user() -> None:
    command: tuple[str, ...] = BYTEBREW
    python = sys.executable
    if os.getuid() == 0:  # who may look into everything
        other = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        command, python = (*other, *BYTEBREW), "/usr/bin/python3"
        for needed in ((*command, "--help"), (*other, "sh", "-c", f"{python} -c 'import asyncio'")):
            if subprocess.run(needed, capture_output=True, check=False).returncode:
                pytest.skip("no other user may run this")
    with tempfile.TemporaryDirectory() as name:
        folder, data = Path(name), Path(name) / "data"
        install(folder / "plugins", "peeking", PEEK)
        how = {"more_tools": [{"name": "peek", "inputSchema": {}}]}
        config = folder / "config.json"
        config.write_text(
            json.dumps(
                {
                    "models": {"m": {"type": "peeking", "model_name": "m"}},
                    "mcp_servers": {"double": stdio(how) | {"command": python}},
                    "agents": {"test": {"model": "m", "mcp_servers": ["double"]}},
                    "schemas": {"test": {"entry_agent": "test", "chat_enabled": True}},
                }
            )
        )
        data.mkdir()
        if os.getuid() == 0:
            folder.chmod(0o755)
            os.chown(data, 65534, 65534)
        settings = {"BYTEBREW_CONFIG": str(config), "BYTEBREW_PLUGINS_DIR": str(folder / "plugins")}
        with serving(data, settings, command) as process:
            headers = {"Authorization": f"Bearer {ADMIN}"}
            asked = json.dumps({"pid": process.process.pid, "names": LOOKED_AT})
            async with httpx.AsyncClient(base_url=process.url, headers=headers, timeout=30) as client:
                with anyio.move_on_after(10):
                    while (server := (await client.get(f"{PATH}/double")).json())["status"]["status"] != "connected":
                        await anyio.sleep(0.1)
                assert server["status"]["status"] == "connected", server["status"]
                body = {"message": asked, "stream": False}
                said = (await client.post("/api/v1/schemas/test/chat", json=body)).json()
    assert json.loads(said["message"]) == dict.fromkeys(LOOKED_AT, "Permission denied")
