"""A vendor on this machine that speaks OpenAI's protocol: it takes one key, answers, and calls the first tool once."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-right-0123456789"


class Vendor(BaseHTTPRequestHandler):
    """One request; what it says is in the path: `/mute/` calls no tools."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers["authorization"] != f"Bearer {KEY}":
            return self._refuse(401, "Incorrect API key provided")
        sent = json.loads(body)
        asked = sent["messages"][-1]["role"] == "user"
        if sent.get("tools") and asked and not self.path.startswith("/mute"):
            name = sent["tools"][0]["function"]["name"]
            call = {"index": 0, "id": "c1", "function": {"name": name, "arguments": "{}"}}
            return self._stream({"tool_calls": [call]}, "tool_calls")
        return self._stream({"content": "All is well, "}, None, {"content": "says the vendor."})

    def _refuse(self, status: int, words: str) -> None:
        body = json.dumps({"error": {"message": words, "type": "invalid_request_error"}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, delta: Any, reason: str | None, *more: Any) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for one in (delta, *more):
            self._event({"choices": [{"delta": one, "finish_reason": reason}]})
        if reason is None:
            self._event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, event: Any) -> None:
        self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def vendor() -> Iterator[str]:
    """The address of a vendor."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Vendor)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
