"""How many of our files a chat runs through: few enough to read in an afternoon."""

import sys
import threading
from pathlib import Path
from types import CodeType, FrameType

import bytebrew
from bytebrew.testing import ADMIN, served_engine

ROOT = Path(bytebrew.__file__).parent.parent
MOST = 22


async def test_a_chat_with_one_tool_call_runs_code_in_at_most_22_of_our_files() -> None:
    seen: set[CodeType] = set()
    recording = False

    def note(frame: FrameType, event: str, _: object) -> None:
        if recording and event == "call":
            seen.add(frame.f_code)

    threading.setprofile(note)  # for the database's threads, which are still to come
    sys.setprofile(note)
    try:
        async with served_engine() as (_, client):
            headers = {"Authorization": f"Bearer {ADMIN}"}
            body = {"message": "What is the current_time?"}
            await client.post("/api/v1/schemas/demo/chat", json=body, headers=headers)
            recording = True
            answer = await client.post("/api/v1/schemas/demo/chat", json=body, headers=headers)
            recording = False
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    assert "event: tool_result" in answer.text
    assert "event: done" in answer.text
    files = {Path(code.co_filename) for code in seen if code.co_name != "<module>"}
    ours = {path.relative_to(ROOT) for path in files if path.is_relative_to(ROOT) and ".venv" not in path.parts}
    ours.discard(Path("tests/test_rooms.py"))
    assert {
        Path("bytebrew/conversation/agent_loop.py"),
        Path("bytebrew/store/turns.py"),
        Path("plugins/bytebrew_demo.py"),
    } <= ours
    assert len(ours) <= MOST, "\n".join(sorted(map(str, ours)))
