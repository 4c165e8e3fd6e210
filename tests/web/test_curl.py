"""The API reference's curl commands, as they stand but for host, names and token, against a real engine."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bytebrew.testing import ADMIN
from tests.processes import serving


class Shell:
    """Runs a curl command of the reference in bash, against this engine and with this token."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __call__(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", self._here(command)], check=True, capture_output=True, text=True, timeout=20
        )
        return done.stdout

    def start(self, command: str) -> "subprocess.Popen[str]":
        """The command, which goes on while its output is read."""
        return subprocess.Popen(["bash", "-c", self._here(command)], stdout=subprocess.PIPE, text=True)

    def _here(self, command: str) -> str:
        command = command.replace("http://localhost:8443", self._url)
        return re.sub(r"bb_your(_api)?_token", ADMIN, command)

    def json(self, command: str) -> Any:
        return json.loads(self(command))


@pytest.fixture(scope="module")
def sh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    with serving(tmp_path_factory.mktemp("data") / "engine") as process:
        yield Shell(process.url)


def test_local_session(sh: Shell) -> None:
    answer = sh.json("curl -X POST http://localhost:8443/api/v1/auth/local-session")
    assert set(answer) >= {"access_token", "expires_at"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", answer["expires_at"])
    listed = sh.json(f'curl http://localhost:8443/api/v1/agents -H "Authorization: Bearer {answer["access_token"]}"')
    assert isinstance(listed, list)


def test_agents(sh: Shell) -> None:
    created = sh.json("""curl -X POST http://localhost:8443/api/v1/agents \\
      -H "Authorization: Bearer bb_your_token" \\
      -H "Content-Type: application/json" \\
      -d '{ "name": "my-agent", "system": "You are a helpful assistant.", "model": "glm-5",
            "tools": ["knowledge_search"], "can_spawn": ["researcher"], "lifecycle": "persistent",
            "max_steps": 50 }'""")
    assert created["name"] == "my-agent"
    *named, search = created["warnings"]
    assert named == ["There is no model 'glm-5' yet", "can_spawn: there is no agent 'researcher' yet"]
    assert search.startswith("tools: 'knowledge_search' is there once a knowledge base is linked")
    listed = sh.json('curl http://localhost:8443/api/v1/agents \\\n -H "Authorization: Bearer bb_your_token"')
    [row] = [row for row in listed if row["name"] == "my-agent"]
    assert {name: row[name] for name in ("name", "model", "lifecycle", "tools_count", "has_knowledge")} == {
        "name": "my-agent",
        "model": "glm-5",
        "lifecycle": "persistent",
        "tools_count": 1,
        "has_knowledge": False,
    }
    one = sh.json('curl http://localhost:8443/api/v1/agents/my-agent -H "Authorization: Bearer bb_your_token"')
    assert {
        name: one[name]
        for name in (
            "name",
            "model",
            "lifecycle",
            "tools",
            "mcp_servers",
            "can_spawn",
            "max_steps",
            "max_context_size",
        )
    } == {
        "name": "my-agent",
        "model": "glm-5",
        "lifecycle": "persistent",
        "tools": ["knowledge_search"],
        "mcp_servers": [],
        "can_spawn": ["researcher"],
        "max_steps": 50,
        "max_context_size": 16000,
    }
    updated = sh.json("""curl -X PUT http://localhost:8443/api/v1/agents/my-agent \\
      -H "Authorization: Bearer bb_your_token" -H "Content-Type: application/json" \\
      -d '{"system": "Updated prompt.", "max_steps": 100}'""")
    assert (updated["system"], updated["max_steps"], updated["tools"]) == ("Updated prompt.", 100, ["knowledge_search"])
    deleted = sh(
        'curl -X DELETE http://localhost:8443/api/v1/agents/my-agent -H "Authorization: Bearer bb_your_token"'
        ' -s -o /dev/null -w "%{http_code}"'
    )
    assert deleted == "204"


def test_models(sh: Shell) -> None:
    created = sh.json("""curl -X POST http://localhost:8443/api/v1/models \\
      -H "Authorization: Bearer bb_your_token" -H "Content-Type: application/json" \\
      -d '{ "name": "my-model", "type": "ollama", "model_name": "llama3.2",
            "base_url": "http://localhost:11434", "api_key": "ollama" }'""")
    listed = sh.json('curl http://localhost:8443/api/v1/models \\\n -H "Authorization: Bearer bb_your_token"')
    [row] = [row for row in listed if row["name"] == "my-model"]
    assert isinstance(row.pop("id"), int)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", row.pop("created_at"))
    assert {name: row[name] for name in ("name", "type", "base_url", "model_name", "has_api_key")} == {
        "name": "my-model",
        "type": "ollama",
        "base_url": "http://localhost:11434",
        "model_name": "llama3.2",
        "has_api_key": True,
    }
    assert "api_key" not in created
    updated = sh.json("""curl -X PUT http://localhost:8443/api/v1/models/my-model \\
      -H "Authorization: Bearer bb_your_token" -H "Content-Type: application/json" \\
      -d '{"api_key": "new-key", "model_name": "qwen3:70b"}'""")
    assert (updated["model_name"], updated["base_url"]) == ("qwen3:70b", "http://localhost:11434")
    deleted = sh(
        'curl -X DELETE http://localhost:8443/api/v1/models/my-model -H "Authorization: Bearer bb_your_token"'
        ' -s -o /dev/null -w "%{http_code}"'
    )
    assert deleted == "204"


def test_verify(sh: Shell) -> None:
    answer = sh.json(
        'curl -X POST http://localhost:8443/api/v1/models/demo/verify -H "Authorization: Bearer bb_your_token"'
    )
    assert isinstance(answer.pop("response_time_ms"), int)
    del answer["at"], answer["steps"]
    assert answer == {
        "connectivity": "ok",
        "tool_calling": "supported",
        "model_name": "demo",
        "provider": "demo",
        "error": None,
    }


def test_own_key(sh: Shell) -> None:
    own = """curl -N http://localhost:8443/api/v1/schemas/demo/chat \\
      -H "Authorization: Bearer bb_your_token" \\
      -H "Content-Type: application/json" \\
      -H "X-Model-Provider: demo" \\
      -H "X-Model-API-Key: sk-ant-user-provided-key" \\
      -H "X-Model-Name: claude-sonnet-4-20250514" \\
      -d '{"message": "Hello"}'"""
    assert sh.json(own)["error"] == "byok_disabled"
    sh("""curl -X PUT http://localhost:8443/api/v1/settings/byok.demo -H "Authorization: Bearer bb_your_token" \\
      -H "Content-Type: application/json" -d '{"value": true}'""")
    stream = sh(own)
    assert "event: done" in stream
    session_id = json.loads(stream.rpartition("data: ")[2])["session_id"]
    sh(f'curl -X DELETE http://localhost:8443/api/v1/sessions/{session_id} -H "Authorization: Bearer bb_your_token"')


def test_registry(sh: Shell) -> None:
    known = sh.json('curl "http://localhost:8443/api/v1/models/registry?provider=anthropic&tier=1"')
    assert [model["id"] for model in known] == ["claude-opus-4-6", "claude-sonnet-4-6"]
    vendors = sh.json("curl http://localhost:8443/api/v1/models/registry/providers")
    assert {"id": "ollama", "display_name": "Ollama", "auth_type": "none", "website": "https://ollama.com"} in vendors


def test_chat_continue_and_sessions(sh: Shell) -> None:
    stream = sh("""curl -N http://localhost:8443/api/v1/schemas/demo/chat \\
      -H "Authorization: Bearer bb_your_token" -H "Content-Type: application/json" \\
      -d '{"message": "What laptops do you have under $1000?"}'""")
    frames = [frame.splitlines() for frame in stream.split("\n\n") if frame and not frame.startswith(":")]
    types = [frame[1].removeprefix("event: ") for frame in frames]
    assert [frame[0] for frame in frames] == [f"id: {n}" for n in range(1, len(frames) + 1)]
    assert types[-2:] == ["message", "done"]
    assert "message_delta" in types
    session_id = json.loads(frames[-1][2].removeprefix("data: "))["session_id"]
    again = sh(f"""curl -N http://localhost:8443/api/v1/schemas/demo/chat \\
      -H "Authorization: Bearer bb_your_token" -H "Content-Type: application/json" \\
      -d '{{"message": "Tell me more about the ProBook 450", "session_id": "{session_id}"}}'""")
    assert f"id: {len(frames) + 1}\n" in again
    assert session_id in again
    page = sh.json(
        'curl "http://localhost:8443/api/v1/sessions?agent=demo&limit=10" \\\n -H "Authorization: Bearer bb_your_token"'
    )
    [row] = page["sessions"]
    assert (row["id"], row["agent"], row["message_count"]) == (session_id, "demo", 4)
    one = sh.json(f'curl http://localhost:8443/api/v1/sessions/{session_id} -H "Authorization: Bearer bb_your_token"')
    assert [message["role"] for message in one["messages"]] == ["user", "assistant"] * 2
    sh(f'curl -X DELETE http://localhost:8443/api/v1/sessions/{session_id} -H "Authorization: Bearer bb_your_token"')
    assert sh.json('curl http://localhost:8443/api/v1/sessions -H "Authorization: Bearer bb_your_token"')["total"] == 0


def test_session_respond(sh: Shell) -> None:
    for path, body in (
        ("agents", {"name": "asks", "model": "demo", "tools": ["current_time"], "confirm_before": ["current_time"]}),
        ("schemas", {"name": "asks", "entry_agent": "asks", "chat_enabled": True}),
    ):
        sh(f"""curl -X POST http://localhost:8443/api/v1/{path} -H "Authorization: Bearer bb_your_token" \\
          -H "Content-Type: application/json" -d '{json.dumps(body)}'""")
    chat = sh.start("""curl -sN http://localhost:8443/api/v1/schemas/asks/chat -D - \\
      -H "Authorization: Bearer bb_your_token" -H "Content-Type: application/json" \\
      -d '{"message": "What is the current_time?"}'""")
    seen = ""
    while '"confirmation_id"' not in seen:
        assert chat.stdout is not None
        line = chat.stdout.readline()
        assert line, seen
        seen += line
    [session_id] = re.findall(r"(?i)^x-session-id: (\S+)", seen, re.MULTILINE)
    [call_id] = set(re.findall(r'"call_id":"([^"]+)"', seen))  # the call and the question about it name the same
    respond = """curl -X POST http://localhost:8443/api/v1/sessions/{session_id}/respond \\
      -H "Authorization: Bearer bb_your_token" \\
      -H "Content-Type: application/json" \\
      -d '{ "call_id": "conf_abc123", "answers": ["approve"] }'"""
    answer = sh.json(respond.replace("{session_id}", session_id).replace("conf_abc123", call_id))
    assert (answer["status"], answer["call_id"], answer["approved"]) == ("ok", call_id, True)
    rest, _ = chat.communicate(timeout=20)
    assert re.findall(r"^event: (tool_result|done)$", rest, re.MULTILINE) == ["tool_result", "done"]
    for path in (f"sessions/{session_id}", "schemas/asks", "agents/asks"):
        sh(f'curl -X DELETE http://localhost:8443/api/v1/{path} -H "Authorization: Bearer bb_your_token"')


def test_tasks(sh: Shell) -> None:
    sh("""curl -X POST http://localhost:8443/api/v1/agents -H "Authorization: Bearer bb_your_token" \\
      -H "Content-Type: application/json" -d '{"name": "researcher", "model": "demo"}'""")
    created = sh.json("""curl -X POST http://localhost:8443/api/v1/tasks \\
      -H "Authorization: Bearer bb_your_token" \\
      -H "Content-Type: application/json" \\
      -d '{ "agent": "researcher", "title": "Market analysis Q1",
            "description": "Analyze Q1 2025 market trends for the SaaS sector" }'""")
    assert {name: created[name] for name in ("agent", "title", "status")} == {
        "agent": "researcher",
        "title": "Market analysis Q1",
        "status": "pending",
    }
    assert re.fullmatch(r"task_\w+", created["id"])
    assert created["created_at"].endswith("Z")
    one = 'curl http://localhost:8443/api/v1/tasks/task_abc123 \\\n -H "Authorization: Bearer bb_your_token"'
    until = time.monotonic() + 10
    while (task := sh.json(one.replace("task_abc123", created["id"])))["status"] != "completed":
        assert time.monotonic() < until, task
    assert "Market analysis Q1" in task["result"]
    sh("""curl -X POST http://localhost:8443/api/v1/tasks -H "Authorization: Bearer bb_your_token" \\
      -H "Content-Type: application/json" -d '{"agent": "researcher", "title": "Later", "mode": "interactive"}'""")
    page = sh.json("""curl "http://localhost:8443/api/v1/tasks?status=pending&agent=researcher" \\
      -H "Authorization: Bearer bb_your_token\"""")
    [row] = page["tasks"]
    assert (row["title"], row["status"], row["agent"]) == ("Later", "pending", "researcher")
    cancel = """curl -X DELETE http://localhost:8443/api/v1/tasks/task_abc123 \\
      -H "Authorization: Bearer bb_your_token" -s -o /dev/null -w "%{http_code}\""""
    assert sh(cancel.replace("task_abc123", row["id"])) == "204"
    assert sh.json(one.replace("task_abc123", row["id"]))["status"] == "cancelled"
    for path in (f"sessions/{task['session_id']}", "agents/researcher"):
        sh(f'curl -X DELETE http://localhost:8443/api/v1/{path} -H "Authorization: Bearer bb_your_token"')


def test_the_documented_task_and_webhook(sh: Shell) -> None:
    page = (Path(__file__).parents[2] / "docs" / "explanation" / "tasks.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    output = sh(f"set -euo pipefail; TOKEN={ADMIN}\n" + "\necho\n".join(blocks))
    task, received = [json.loads(line) for line in output.splitlines()]
    assert (task["title"], task["priority"]) == ("What is the current_time?", 1)
    made = sh.json(
        f'curl http://localhost:8443/api/v1/tasks/{received["task_id"]} -H "Authorization: Bearer bb_your_token"'
    )
    assert (made["title"], made["description"], made["source"]) == ("Order 7", '{"id": 7}', "webhook")


def test_health(sh: Shell) -> None:
    answer = sh.json("curl http://localhost:8443/api/v1/health")
    assert set(answer) == {"status", "version", "agents_count", "uptime", "started_at"}
    assert (answer["status"], answer["version"], answer["agents_count"]) == ("ok", "1.0.0", 1)
    assert re.fullmatch(r"(\d+h)?(\d+m)?\d+s", answer["uptime"])
