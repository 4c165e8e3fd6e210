"""Answers the requests of one server, as far as its configuration allows them."""

import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from bytebrew import Engine, EngineError, Masker, ToolError

from ..config import Mcp, ServerRow
from ..jsonrpc import INTERNAL_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, URL_NEEDED, JsonRpcError
from . import elicitation, sampling
from .active_call import ActiveCall

log = logging.getLogger(__name__)

MAX_AT_ONCE = 10
MAX_STATE = 1024 * 1024
NOBODY = "it asks for input that nobody here can give"


class Round(Struct, frozen=True):
    """What a server needs before it goes on with a call (2026-07-28): its requests by key, and its opaque state."""

    requests: dict[str, Any]
    state: str | None = None


class Responder:
    """Answers requests of a server during its calls; `mask` removes its credentials from what is shown."""

    def __init__(self, engine: Engine, server: ServerRow, mask: Masker) -> None:
        self._engine = engine
        self._server = server
        self._mask = mask
        self._samples = server.sampling and engine.settings.of(Mcp).mcp_sampling == "on"

    @property
    def capabilities(self) -> dict[str, Any]:
        """The client capabilities that are announced to the server."""
        offered: dict[str, Any] = {"elicitation": dict(elicitation.CAPABILITY)} if self._server.elicitation else {}
        return offered | ({"sampling": {}} if self._samples else {})

    def offers(self, method: str) -> bool:
        """Whether requests of this method are answered."""
        if method == elicitation.METHOD:
            return self._server.elicitation
        return method == sampling.METHOD and self._samples

    def dismissal(self, method: str) -> dict[str, Any]:
        """The part of a reply that ends a request without an answer, as its call is over."""
        if method == elicitation.METHOD:
            return {"result": {"action": "cancel"}}
        return {"error": {"code": INTERNAL_ERROR, "message": "The call is over"}}

    async def answer(self, method: str, params: Any, active: ActiveCall) -> dict[str, Any]:
        """The result of one request; JsonRpcError if there is none."""
        [result] = (await self.answers({"": {"method": method, "params": params}}, active, "")).values()
        return result

    async def go_on(self, needed: Round, active: ActiveCall) -> dict[str, Any]:
        """The responses to all requests of a round, which a restart of the engine does not lose."""
        state = msgspec.json.encode(needed).decode()
        if len(state) > MAX_STATE:
            raise JsonRpcError(0, f"it asks for input by more than {MAX_STATE} bytes")
        return await self.answers(needed.requests, active, state)

    async def visit(self, error: JsonRpcError, active: ActiveCall) -> bool:
        """Whether a person has been to the pages that an error of code URL_NEEDED names (2025-11-25)."""
        pages = error.data.get("elicitations") if isinstance(error.data, dict) else None
        if error.code != URL_NEEDED or not self._server.elicitation or not isinstance(pages, list) or not pages:
            return False
        requests = {
            str(n): {"method": elicitation.METHOD, "params": {**page, "mode": "url"}}
            for n, page in enumerate(pages)
            if isinstance(page, dict)
        }
        answers = await self.answers(requests, active, "")
        return all(answer["action"] == "accept" for answer in answers.values())

    async def answers(self, requests: Mapping[str, Any], active: ActiveCall, state: str) -> dict[str, dict[str, Any]]:
        """The results of several requests by key: the questions among them are asked at once."""
        if len(requests) > MAX_AT_ONCE or not all(active.counts() for _ in requests):
            raise JsonRpcError(INVALID_REQUEST, "it asks for too much in one call")
        questions, results = {}, {}
        for key, request in requests.items():
            method = request.get("method") if isinstance(request, dict) else None
            if not isinstance(method, str) or not self.offers(method):
                raise JsonRpcError(METHOD_NOT_FOUND, NOBODY)
            if method == elicitation.METHOD:
                questions[key] = elicitation.question_of(request.get("params"), self._mask)
        try:
            with active.paused():
                if questions:
                    given = await self._engine.ask(active.call, [*questions.values()], resume_state=state)
                    for (key, question), answer in zip(questions.items(), given, strict=True):
                        results[key] = elicitation.result_of(question, answer)
                for key in requests.keys() - questions.keys():
                    results[key] = await self._sample(requests[key].get("params"), active)
        except (EngineError, ToolError) as error:  # its message is for us, not for the server
            log.info("MCP server %s: what it asks for failed: %s", self._server.name, error)
            code = error.code if isinstance(error, EngineError) else "call_over"
            raise JsonRpcError(INTERNAL_ERROR, f"what it asks for failed here ({code})") from error
        return {key: results[key] for key in requests}

    async def _sample(self, params: Any, active: ActiveCall) -> dict[str, Any]:
        request = sampling.request_of(params, self._server.sampling_max_tokens)
        return sampling.result_of(
            await self._engine.sample(active.call, request, model=self._server.sampling_model or "")
        )
