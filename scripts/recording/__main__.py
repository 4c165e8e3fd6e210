"""`python -m scripts.recording BIN`: records the first minute with the programs in BIN, and draws the recording.

The head of the cast keeps nothing of the machine.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from scripts.recording import svg

HERE = Path(__file__).resolve().parent
CAST = HERE.parents[1] / "docs" / "images" / "first-minute.cast"
COLUMNS, ROWS = 96, 27
LONGEST_WAIT = 1.0


def record(programs: Path) -> None:
    """Runs the script in an empty folder under asciinema."""
    asciinema = [
        sys.executable,
        "-m",
        "asciinema",
        "rec",
        "--overwrite",
        "--quiet",
        f"--cols={COLUMNS}",
        f"--rows={ROWS}",
    ]
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "LC_ALL": "C.UTF-8",
        "TERM": "xterm-256color",
    }
    with tempfile.TemporaryDirectory() as folder:
        command = [*asciinema, f"--command={HERE / 'first_minute.sh'}", str(CAST)]
        subprocess.run(command, cwd=folder, env=environment | {"HOME": folder}, check=True)
    head, *events = map(json.loads, CAST.read_text().splitlines())
    if CAST.read_text().count("event: done") != 2:
        sys.exit(f"the first minute went wrong, as {CAST} shows; is another engine on port 8443?")
    kept = {key: head[key] for key in ("version", "width", "height")} | {"title": "The first minute with ByteBrew"}
    before = shown = 0.0
    for event in events:  # a wait for a start is cut short
        before, shown = event[0], shown + min(event[0] - before, LONGEST_WAIT)
        event[0] = round(shown, 3)
    CAST.write_text("".join(f"{json.dumps(line)}\n" for line in (kept, *events)))


if __name__ == "__main__":
    record(Path(sys.argv[1]).resolve())
    CAST.with_suffix(".svg").write_text(svg.drawn(CAST.read_text()))
