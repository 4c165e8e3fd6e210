"""The README's commands work as they stand, and its tables say what is so."""

import re
import subprocess
from pathlib import Path

from bytebrew.base.settings import rows
from bytebrew.engine import Engine
from tests.processes import serving

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_every_command_of_the_tour_works_as_it_stands(tmp_path: Path) -> None:
    blocks = re.findall(r"```(?:bash|sh)\n(.*?)```", README, re.DOTALL)
    assert len(blocks) >= 8
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
    session, stream, answer, events, made, token, task, webhook = parts
    assert session == ""
    assert "event: tool_call" in stream
    assert "event: done" in stream
    assert '"message":"You said: Hello' in answer
    assert events.startswith('{"events":[{"id":4,')
    assert made.count('"created_at"') == 3
    assert '"error"' not in made
    assert re.search(r'"token":"bb_[0-9a-f]{64}"', token)
    assert '"title":"What is the current_time?"' in task
    assert '"task_id"' in webhook or '"id"' in webhook
    assert '"error":"' not in task + webhook


def test_paths_are_whole() -> None:
    called = re.findall(r"`(?:GET|POST|PUT|PATCH|DELETE) (/[^`]*)`", README)
    assert len(called) > 20
    assert not [path for path in called if not re.match(r"/(api/v1/|docs|metrics)", path)]


def test_the_settings_table_is_the_codes(tmp_path: Path) -> None:
    settings = rows(Engine({"BYTEBREW_DATA_DIR": str(tmp_path)}).plugins.tables())
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    lines += [f"| `{row.variable}` | {f'`{row.default}`' if row.default else ''} | {row.help} |" for row in settings]
    assert "<!-- settings -->\n" + "\n".join(lines) + "\n<!-- /settings -->" in README
