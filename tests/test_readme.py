"""The commands of the README and of the pages of docs/ work as they stand."""

import re
import subprocess
from pathlib import Path

from tests.docs import PAGES, ROOT
from tests.processes import serving

README = (ROOT / "README.md").read_text()
EXECUTED = ("reference/access.md", "explanation/tasks.md")
ELSEWHERE = (  # tests/docs and tests/shipped
    "how-to/install.md",
    "how-to/upgrade.md",
    "how-to/deploy.md",
    "how-to/postgresql.md",
    "how-to/plugins.md",
    "tutorials/first-agent.md",
    "tutorials/plugin.md",
    "explanation/conversations.md",
    "reference/faces.md",
    "how-to/operations.md",
    "how-to/plugins.md",
)


def test_every_command_of_the_tour_and_of_the_pages_works_as_it_stands(tmp_path: Path) -> None:
    pages = [(ROOT / "docs" / name).read_text() for name in EXECUTED]
    blocks = [block for page in (README, *pages) for block in re.findall(r"```(?:bash|sh)\n(.*?)```", page, re.DOTALL)]
    with serving(tmp_path / "data") as engine:
        script = "set -euo pipefail\n" + "\necho; echo ----\n".join(blocks)
        done = subprocess.run(
            ["bash", "-c", script.replace("http://localhost:8443", engine.url)],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    parts = [part.strip() for part in done.stdout.split("----")]
    session, stream, answer, events, made, token, reports, task, webhook = parts
    assert session == ""
    assert "event: tool_call" in stream
    assert "event: done" in stream
    assert '"message":"You said: Hello' in answer
    assert events.startswith('{"events":[{"id":4,')
    assert made.count('"created_at"') == 3
    assert '"error"' not in made
    for created in (token, reports):
        assert re.search(r'"token":"bb_[0-9a-f]{64}"', created)
    assert '"title":"What is the current_time?"' in task
    assert '"task_id"' in webhook or '"id"' in webhook
    assert '"error":"' not in task + webhook


def test_no_page_has_commands_that_are_not_executed() -> None:
    found = {page for page in PAGES if re.search(r"^```(?:bash|sh)$", page.read_text(), re.MULTILINE)}
    examples = ROOT / "examples/clients/README.md"  # tests/shipped/test_clients.py
    assert found <= {ROOT / "README.md", examples} | {ROOT / "docs" / name for name in (*EXECUTED, *ELSEWHERE)}


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 200
    assert "No licence has been chosen." in README


def test_paths_are_whole() -> None:
    text = "\n".join(
        page.read_text()
        for page in PAGES
        if page.parent == ROOT or page.is_relative_to(ROOT / "docs")
        if "CHANGE" not in page.name
    )
    called = re.findall(r"`(?:GET|POST|PUT|PATCH|DELETE) (/[^`]*)`", text)
    assert len(called) > 20
    assert not [path for path in called if not re.match(r"/(api/v1/|docs|metrics|v1/|ai-sdk/|ag-ui/|mcp)", path)]
