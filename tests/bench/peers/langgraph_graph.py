"""A graph of one node, which calls the model."""

import os
from typing import Any

from langchain_openai import ChatOpenAI  # type: ignore[import-not-found]
from langgraph.graph import START, MessagesState, StateGraph  # type: ignore[import-not-found]


def builder(base_url: str) -> Any:
    """The graph before it is compiled."""
    model = ChatOpenAI(model="burst", base_url=base_url, api_key="sk-bench", streaming=True, stream_usage=True)
    system = {"role": "system", "content": "You talk about words."}

    async def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke([system, *state["messages"]])]}

    graph = StateGraph(MessagesState)
    graph.add_node("answer", answer)
    graph.add_edge(START, "answer")
    return graph


def bench() -> Any:
    """The graph as LangGraph's server loads it."""
    return builder(os.environ["BENCH_BASE_URL"]).compile()
