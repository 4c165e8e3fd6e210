"""A graph of LangGraph behind FastAPI, its checkpoints in SQLite."""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI  # type: ignore[import-not-found]
from fastapi.responses import StreamingResponse  # type: ignore[import-not-found]
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver  # type: ignore[import-not-found]
from pydantic import BaseModel

from tests.bench.peers.langgraph_graph import builder
from tests.bench.peers.served import serve


class Message(BaseModel):
    """What a client sends."""

    message: str
    session_id: str


def application(base_url: str, file: Path) -> FastAPI:
    """One route, which streams the deltas of an answer."""
    graphs: list[Any] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncSqliteSaver.from_conn_string(str(file)) as saver:
            await saver.setup()
            graphs.append(builder(base_url).compile(checkpointer=saver))
            yield

    app = FastAPI(lifespan=lifespan)

    async def stream(message: Message) -> AsyncIterator[str]:
        given = {"messages": [{"role": "user", "content": message.message}]}
        config = {"configurable": {"thread_id": message.session_id}}
        async for chunk, _ in graphs[0].astream(given, config, stream_mode="messages"):
            if chunk.content:
                yield f"data: {json.dumps({'content': chunk.content})}\n\n"
        yield "data: [DONE]\n\n"

    async def chat(message: Message) -> StreamingResponse:
        return StreamingResponse(stream(message), media_type="text/event-stream")

    app.post("/chat")(chat)
    return app


if __name__ == "__main__":
    base_url, folder = sys.argv[1:]
    serve(application(base_url, Path(folder) / "langgraph.db"))
