"""The vendors that speak the OpenAI wire, each with the quirks that its documentation states."""

import re
from hashlib import blake2b
from typing import Any
from urllib.parse import quote

from bytebrew import Attachment, Capabilities, Message, ModelRequest

from .provider import ChatCompletions, address

_KEY = frozenset({"api_key"})
_FETCHED = ("image/", "application/pdf")
_THINKS = re.compile(r"gpt-(5\.[5-9]|[6-9])(?!.*chat)")


def _with_tools(body: dict[str, Any]) -> dict[str, Any]:
    """The body as OpenAI's models that think by themselves take it: on this wire they refuse tools unless they do not.

    https://community.openai.com/t/gpt-5-6-chat-completion-reasoning-effort-bug-behavior-change/1386454
    """
    return body | {"reasoning_effort": "none"} if "tools" in body and _THINKS.search(body["model"]) else body


class OpenAICompatible(ChatCompletions):
    """Any server that speaks the OpenAI wire; OpenAI's own where no base URL is given."""

    type = "openai_compatible"
    aliases = ("openai", "openai-compatible")
    base_url = "https://api.openai.com/v1"
    capabilities = Capabilities(thinking=True, vision=True, documents=True, embeddings=True)

    def body(self, request: ModelRequest) -> dict[str, Any]:
        body = super().body(request)
        if request.base_url != self.base_url:
            return body
        # OpenAI has renamed it, and its reasoning models refuse the old name, which other servers go by.
        if "max_tokens" in body:
            body["max_completion_tokens"] = body.pop("max_tokens")
        return _with_tools(body)


class AzureOpenAI(ChatCompletions):
    """OpenAI's models as deployments on Azure; a model's name is its deployment's.

    A base URL that ends in /openai/v1 is of the API without versions, any other of the one before it.
    """

    # https://learn.microsoft.com/azure/foundry/openai/reference and /api-version-lifecycle
    type = "azure_openai"
    needs = frozenset({"base_url", "api_key"})
    capabilities = Capabilities(vision=True, embeddings=True)
    limit_field = "max_completion_tokens"  # the old name is deprecated, and no reasoning model takes it

    def url(self, request: ModelRequest, path: str) -> str:
        if request.base_url.endswith("/openai/v1"):
            return super().url(request, path)
        version = request.api_version or "2024-10-21"
        deployment = quote(request.model_name, safe="")
        return f"{request.base_url}/openai/deployments/{deployment}/{path}?api-version={quote(version)}"

    def headers(self, request: ModelRequest) -> dict[str, str]:
        return {"api-key": request.api_key}

    def body(self, request: ModelRequest) -> dict[str, Any]:
        return _with_tools(super().body(request))


class OpenRouter(ChatCompletions):
    """Many vendors behind one address."""

    type = "openrouter"
    base_url = "https://openrouter.ai/api/v1"
    needs = _KEY
    capabilities = Capabilities(thinking=True, vision=True, documents=True, embeddings=True, urls=_FETCHED)

    def message(self, message: Message) -> dict[str, Any]:
        told = super().message(message)
        # https://openrouter.ai/docs/use-cases/reasoning-tokens#preserving-reasoning-blocks
        if details := message.vendor.get("reasoning_details"):
            told["reasoning_details"] = details
        elif message.thinking:
            told["reasoning"] = message.thinking
        return told

    def document(self, file: Attachment) -> dict[str, Any]:
        # https://openrouter.ai/docs/features/multimodal/pdfs: a URL as well as the bytes
        return {"type": "file", "file": {"filename": file.name or "document.pdf", "file_data": address(file)}}


class DeepSeek(ChatCompletions):
    """DeepSeek's own API."""

    type = "deepseek"
    base_url = "https://api.deepseek.com/v1"
    needs = _KEY
    capabilities = Capabilities(thinking=True, vision=True)  # https://api-docs.deepseek.com/guides/vision
    # https://api-docs.deepseek.com/api/create-chat-completion
    failures = {**ChatCompletions.failures, "insufficient_system_resource": "model_overloaded"}
    # https://api-docs.deepseek.com/guides/thinking_mode: after a tool call it is due in every request, else ignored
    thought_field = "reasoning_content"

    def message(self, message: Message) -> dict[str, Any]:
        told = super().message(message)
        if message.tool_calls:  # and also where nothing was thought, or another vendor made the call
            told.setdefault(self.thought_field, "")
        return told


class Mistral(ChatCompletions):
    """Mistral's own API."""

    # https://docs.mistral.ai/api/endpoint/chat
    type = "mistral"
    base_url = "https://api.mistral.ai/v1"
    needs = _KEY
    capabilities = Capabilities(thinking=True, vision=True, documents=True, embeddings=True, urls=_FETCHED)
    stops = {**ChatCompletions.stops, "model_length": "max_tokens"}
    asks_for_usage = False  # it has no stream_options and always tells

    def body(self, request: ModelRequest) -> dict[str, Any]:
        body = super().body(request)
        if body.get("tool_choice") == "required":
            body["tool_choice"] = "any"
        said: list[dict[str, Any]] = []
        for one in body["messages"]:
            if said and (said[-1]["role"], one["role"]) == ("tool", "user"):  # an order that it refuses
                said.append({"role": "assistant", "content": "OK"})
            said.append(one)
        return body | {"messages": said}

    def message(self, message: Message) -> dict[str, Any]:
        told = super().message(message)
        # https://docs.mistral.ai/capabilities/reasoning: thoughts are parts of the content, and wanted back
        if message.thinking:
            thought = {"type": "thinking", "thinking": [{"type": "text", "text": message.thinking}]}
            words = [{"type": "text", "text": message.content}] if message.content else []
            told["content"] = [thought, *words]
        return told

    def call_id(self, call_id: str) -> str:
        # https://docs.mistral.ai/capabilities/function_calling: nine letters and digits
        return call_id if re.fullmatch("[a-zA-Z0-9]{9}", call_id) else blake2b(call_id.encode()).hexdigest()[:9]

    def document(self, file: Attachment) -> dict[str, Any]:
        # https://docs.mistral.ai/capabilities/document_ai/document_qna
        return {"type": "document_url", "document_url": address(file)}


class XAI(ChatCompletions):
    """xAI's own API."""

    # https://docs.x.ai/docs/guides/image-understanding
    type = "xai"
    base_url = "https://api.x.ai/v1"
    needs = _KEY
    capabilities = Capabilities(thinking=True, vision=True)


class ZAI(ChatCompletions):
    """Z.ai's own API."""

    # https://docs.z.ai/api-reference/llm/chat-completion
    type = "zai"
    base_url = "https://api.z.ai/api/paas/v4"
    needs = _KEY
    capabilities = Capabilities(thinking=True, vision=True)
    stops = {**ChatCompletions.stops, "sensitive": "refusal", "model_context_window_exceeded": "max_tokens"}
    failures = {**ChatCompletions.failures, "network_error": "model_unavailable"}
    asks_for_usage = False  # it has no stream_options and always tells
    # https://docs.z.ai/guides/capabilities/thinking-mode: wanted back with the tools' results
    thought_field = "reasoning_content"

    def body(self, request: ModelRequest) -> dict[str, Any]:
        body = super().body(request)
        if body.pop("tool_choice", "none") == "none":
            body.pop("tools", None)  # auto, which is what it does by itself, is the only choice that it knows
        return body


openai_compatible = OpenAICompatible()
azure_openai = AzureOpenAI()
openrouter = OpenRouter()
deepseek = DeepSeek()
mistral = Mistral()
xai = XAI()
zai = ZAI()
