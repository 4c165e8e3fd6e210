"""An agent of OpenAI's Agents SDK behind FastAPI, its sessions in SQLite."""

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from agents import Agent, OpenAIChatCompletionsModel, Runner, set_tracing_disabled  # type: ignore[import-not-found]
from agents.extensions.memory import AsyncSQLiteSession  # type: ignore[import-not-found]
from fastapi import FastAPI  # type: ignore[import-not-found]
from fastapi.responses import StreamingResponse  # type: ignore[import-not-found]
from openai import AsyncOpenAI  # type: ignore[import-not-found]
from pydantic import BaseModel

from tests.bench.peers.served import serve


class Message(BaseModel):
    """What a client sends."""

    message: str
    session_id: str


def application(base_url: str, file: Path) -> FastAPI:
    """One route, which streams the deltas of an answer."""
    set_tracing_disabled(True)
    model = OpenAIChatCompletionsModel("burst", AsyncOpenAI(base_url=base_url, api_key="sk-bench"))
    agent = Agent(name="bench", instructions="You talk about words.", model=model)
    app = FastAPI()

    async def stream(message: Message) -> AsyncIterator[str]:
        session = AsyncSQLiteSession(message.session_id, str(file))
        try:
            async for event in Runner.run_streamed(agent, message.message, session=session).stream_events():
                if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                    yield f"data: {json.dumps({'content': event.data.delta})}\n\n"
            yield "data: [DONE]\n\n"
        finally:
            await session.close()

    async def chat(message: Message) -> StreamingResponse:
        return StreamingResponse(stream(message), media_type="text/event-stream")

    app.post("/chat")(chat)
    return app


if __name__ == "__main__":
    base_url, folder = sys.argv[1:]
    serve(application(base_url, Path(folder) / "agents.db"))
