"""The commands of the page about conversations work as they stand, but for host, names and token."""

import json
import re
import subprocess
from pathlib import Path

import httpx
import pytest

from bytebrew.testing import ADMIN
from tests.processes import serving

PAGE = Path(__file__).parent.parent.parent / "docs" / "conversations.md"


def commands(heading: str) -> list[str]:
    section = PAGE.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"```bash\n(.*?)```", section, re.DOTALL)


@pytest.mark.parametrize(("heading", "answers"), [("Steer a turn that runs", 1), ("Fork and edit", 2)])
def test_the_commands_of_a_section_are_answered(heading: str, answers: int, tmp_path: Path) -> None:
    found = commands(heading)
    assert len(found) == answers
    with serving(tmp_path / "engine") as process:
        with httpx.Client(base_url=process.url, headers={"Authorization": f"Bearer {ADMIN}"}, timeout=30) as client:
            sent = {"message": "What does it cost?", "stream": False}
            begun = client.post("/api/v1/schemas/demo/chat", json=sent).raise_for_status().json()
        names = {"TOKEN": ADMIN, "SESSION": begun["session_id"], "TURN": begun["turn_id"]}
        for command in found:
            here = command.replace("http://localhost:8443", process.url).replace("schemas/support", "schemas/demo")
            done = subprocess.run(
                ["bash", "-c", here],
                check=True,
                capture_output=True,
                text=True,
                timeout=30,
                env={"PATH": "/usr/bin:/bin", **names},
            )
            if "event: " in done.stdout:
                assert "event: done" in done.stdout
            else:
                assert "error" not in json.loads(done.stdout), done.stdout


def test_the_commands_about_the_clients_tools_and_the_public_view_are_answered(tmp_path: Path) -> None:
    declare, give = commands("Tools that run in the client")
    [token] = commands("The view of the public")
    with serving(tmp_path / "engine") as process:
        with httpx.Client(base_url=process.url, headers={"Authorization": f"Bearer {ADMIN}"}, timeout=30) as client:
            client.patch("/api/v1/schemas/demo", json={"client_tools": True}).raise_for_status()
            tool = {"name": "where_am_i", "input_schema": {"type": "object"}}
            sent = {"message": 'where_am_i {"exact": true}', "stream": False, "client_tools": [tool]}
            waiting = client.post("/api/v1/schemas/demo/chat", json=sent).json()
        names = {"TOKEN": ADMIN, "SESSION": waiting["session_id"], "CALL": waiting["client_calls"][0]["call_id"]}
        outputs = []
        for command in (declare, give, token):
            here = command.replace("http://localhost:8443", process.url).replace("schemas/support", "schemas/demo")
            environment = {"PATH": "/usr/bin:/bin", **names}
            done = subprocess.run(["bash", "-c", here], check=True, capture_output=True, timeout=30, env=environment)
            outputs.append(done.stdout.decode())
    assert "event: done" in outputs[0]
    assert json.loads(outputs[1])["is_error"] is False
    assert json.loads(outputs[2])["view"] == "public"
