"""Vendors with the chat completions API, and their documented differences."""

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
    """Disables reasoning if a request has tools, because newer OpenAI models reject both together on this API.

    https://community.openai.com/t/gpt-5-6-chat-completion-reasoning-effort-bug-behavior-change/1386454
    """
    return body | {"reasoning_effort": "none"} if "tools" in body and _THINKS.search(body["model"]) else body


class OpenAICompatible(ChatCompletions):
    """OpenAI, or any server with its API at another base URL."""

    type = "openai_compatible"
    aliases = ("openai", "openai-compatible")
    base_url = "https://api.openai.com/v1"
    capabilities = Capabilities(thinking=True, vision=True, documents=True, embeddings=True, structured=True)

    # https://platform.openai.com/docs/guides/structured-outputs: with function calling too. Servers on llama.cpp refuse
    # or ignore tools beside a schema, and apply it to the sampling alone.
    def formats_with_tools(self, request: ModelRequest) -> bool:
        return request.base_url == self.base_url

    def knows_schema(self, request: ModelRequest) -> bool:
        return request.base_url == self.base_url

    def body(self, request: ModelRequest) -> dict[str, Any]:
        body = super().body(request)
        if request.base_url != self.base_url:
            return body
        # OpenAI's reasoning models reject the old name, which other servers use.
        if "max_tokens" in body:
            body["max_completion_tokens"] = body.pop("max_tokens")
        return _with_tools(body)


class AzureOpenAI(ChatCompletions):
    """Azure OpenAI; a model's name is that of its deployment.

    A base URL ending in /openai/v1 is the API without versions, any other the versioned one.
    """

    # https://learn.microsoft.com/azure/foundry/openai/reference and /api-version-lifecycle
    type = "azure_openai"
    needs = frozenset({"base_url", "api_key"})
    capabilities = Capabilities(vision=True, embeddings=True, structured=True)
    limit_field = "max_completion_tokens"  # reasoning models reject the deprecated max_tokens

    def formats_with_tools(self, request: ModelRequest) -> bool:
        return True  # https://learn.microsoft.com/azure/foundry/openai/how-to/structured-outputs

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
    """OpenRouter, many vendors behind one API."""

    type = "openrouter"
    base_url = "https://openrouter.ai/api/v1"
    needs = _KEY
    capabilities = Capabilities(
        thinking=True, vision=True, documents=True, embeddings=True, urls=_FETCHED, structured=True
    )

    def formats_with_tools(self, request: ModelRequest) -> bool:
        return True

    def body(self, request: ModelRequest) -> dict[str, Any]:
        body = super().body(request)
        # https://openrouter.ai/docs/features/structured-outputs: or it goes to vendors that ignore the format
        return body | {"provider": {"require_parameters": True}} if "response_format" in body else body

    def message(self, message: Message) -> dict[str, Any]:
        entry = super().message(message)
        # https://openrouter.ai/docs/use-cases/reasoning-tokens#preserving-reasoning-blocks
        if details := message.vendor.get("reasoning_details"):
            entry["reasoning_details"] = details
        elif message.thinking:
            entry["reasoning"] = message.thinking
        return entry

    def document(self, file: Attachment) -> dict[str, Any]:
        # https://openrouter.ai/docs/features/multimodal/pdfs: accepts URLs too
        return {"type": "file", "file": {"filename": file.name or "document.pdf", "file_data": address(file)}}


class DeepSeek(ChatCompletions):
    """DeepSeek's API."""

    type = "deepseek"
    base_url = "https://api.deepseek.com/v1"
    needs = _KEY
    # https://api-docs.deepseek.com/guides/vision
    capabilities = Capabilities(thinking=True, vision=True, structured=True)
    formats = "json_object"  # https://api-docs.deepseek.com/guides/json_mode: no schema; the prompt must name JSON
    # https://api-docs.deepseek.com/api/create-chat-completion
    failures = {**ChatCompletions.failures, "insufficient_system_resource": "model_overloaded"}
    # https://api-docs.deepseek.com/guides/thinking_mode: required after a tool call, otherwise ignored
    thought_field = "reasoning_content"

    def message(self, message: Message) -> dict[str, Any]:
        entry = super().message(message)
        if message.tool_calls:  # required even if empty, or if another vendor made the call
            entry.setdefault(self.thought_field, "")
        return entry


class Mistral(ChatCompletions):
    """Mistral's API."""

    # https://docs.mistral.ai/api/endpoint/chat
    type = "mistral"
    base_url = "https://api.mistral.ai/v1"
    needs = _KEY
    # https://docs.mistral.ai/capabilities/structured-output/custom_structured_output: says nothing of tools beside it
    capabilities = Capabilities(
        thinking=True, vision=True, documents=True, embeddings=True, urls=_FETCHED, structured=True
    )
    stops = {**ChatCompletions.stops, "model_length": "max_tokens"}
    asks_for_usage = False  # it has no stream_options and always sends usage

    def body(self, request: ModelRequest) -> dict[str, Any]:
        body = super().body(request)
        if body.get("tool_choice") == "required":
            body["tool_choice"] = "any"
        sent: list[dict[str, Any]] = []
        for one in body["messages"]:
            if sent and (sent[-1]["role"], one["role"]) == ("tool", "user"):  # it rejects a user message after a tool's
                sent.append({"role": "assistant", "content": "OK"})
            sent.append(one)
        return body | {"messages": sent}

    def message(self, message: Message) -> dict[str, Any]:
        entry = super().message(message)
        # https://docs.mistral.ai/capabilities/reasoning: thinking is part of the content, and is sent back
        if message.thinking:
            thought = {"type": "thinking", "thinking": [{"type": "text", "text": message.thinking}]}
            texts = [{"type": "text", "text": message.content}] if message.content else []
            entry["content"] = [thought, *texts]
        return entry

    def call_id(self, call_id: str) -> str:
        # https://docs.mistral.ai/capabilities/function_calling: nine letters and digits
        return call_id if re.fullmatch("[a-zA-Z0-9]{9}", call_id) else blake2b(call_id.encode()).hexdigest()[:9]

    def document(self, file: Attachment) -> dict[str, Any]:
        # https://docs.mistral.ai/capabilities/document_ai/document_qna
        return {"type": "document_url", "document_url": address(file)}


class XAI(ChatCompletions):
    """xAI's API."""

    # https://docs.x.ai/docs/guides/image-understanding
    type = "xai"
    base_url = "https://api.x.ai/v1"
    needs = _KEY
    capabilities = Capabilities(thinking=True, vision=True, structured=True)

    def formats_with_tools(self, request: ModelRequest) -> bool:
        return "grok-4" in request.model_name  # https://docs.x.ai/docs/guides/structured-outputs


class ZAI(ChatCompletions):
    """Z.ai's API."""

    # https://docs.z.ai/api-reference/llm/chat-completion
    type = "zai"
    base_url = "https://api.z.ai/api/paas/v4"
    needs = _KEY
    capabilities = Capabilities(thinking=True, vision=True, structured=True)
    formats = "json_object"  # https://docs.z.ai/guides/capabilities/struct-output: no schema; the system text has it
    stops = {**ChatCompletions.stops, "sensitive": "refusal", "model_context_window_exceeded": "max_tokens"}
    failures = {**ChatCompletions.failures, "network_error": "model_unavailable"}
    asks_for_usage = False  # it has no stream_options and always sends usage
    # https://docs.z.ai/guides/capabilities/thinking-mode: sent back with tool results
    thought_field = "reasoning_content"

    def body(self, request: ModelRequest) -> dict[str, Any]:
        body = super().body(request)
        if body.pop("tool_choice", "none") == "none":
            body.pop("tools", None)  # it only supports auto, its default
        return body


openai_compatible = OpenAICompatible()
azure_openai = AzureOpenAI()
openrouter = OpenRouter()
deepseek = DeepSeek()
mistral = Mistral()
xai = XAI()
zai = ZAI()
