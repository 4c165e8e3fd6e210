"""Agno's AgentOS with one agent, its sessions in SQLite."""

import sys
from pathlib import Path

from agno.agent import Agent  # type: ignore[import-not-found]
from agno.db.sqlite import AsyncSqliteDb  # type: ignore[import-not-found]
from agno.models.openai.like import OpenAILike  # type: ignore[import-not-found]
from agno.os import AgentOS  # type: ignore[import-not-found]

from tests.bench.peers.served import serve

if __name__ == "__main__":
    base_url, folder = sys.argv[1:]
    model = OpenAILike(id="burst", base_url=base_url, api_key="sk-bench")
    db = AsyncSqliteDb(db_file=str(Path(folder) / "agno.db"))
    agent = Agent(id="bench", model=model, db=db, instructions="You talk about words.", telemetry=False)
    serve(AgentOS(agents=[agent], telemetry=False).get_app())
