"""An MCP server of our own, over stdio and HTTP, in every version of the protocol and with every fault.

As a program it speaks over stdio and reads from the JSON in MCP_DOUBLE how it should be.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any, Self

MODERN = "2026-07-28"
NESTED = {
    "type": "object",
    "properties": {
        "who": {
            "type": "object",
            "properties": {"name": {"type": "string", "x-mcp-header": "Who"}},
            "required": ["name"],
        },
        "tags": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/tag"}]}},
    },
    "required": ["who"],
    "$defs": {"tag": {"type": "object", "properties": {"key": {"type": "string"}}}},
}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def tools(how: dict[str, Any]) -> list[Any]:
    """What the server offers now; a file may change the description of `echo` while it runs."""
    changed = Path(how["description_file"]).read_text() if "description_file" in how else how.get("description", "")
    return [
        {"name": "echo", "description": changed or "Says it again.", "inputSchema": NESTED},
        {"name": "env", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}},
        {"name": "kinds", "inputSchema": {"type": "object"}, "annotations": {"idempotentHint": True}},
        {"name": "slow", "inputSchema": {"type": "object"}, "annotations": {"destructiveHint": True}},
        {"name": "fail", "inputSchema": {"type": "object"}},
        {"name": "die", "inputSchema": {"type": "object"}},
        {"name": "seen", "inputSchema": {"type": "object"}},
        {"name": "structured", "inputSchema": {"type": "object"}},
        {"name": "eat", "inputSchema": {"type": "object"}},
        {"name": "odd.name/with more", "inputSchema": {"type": "object"}},
        {"name": "array", "inputSchema": {"type": "array"}},
        "no tool at all",
        *how.get("more_tools", []),
        *({"name": f"tool{n}", "inputSchema": {}} for n in range(how.get("many", 0))),
    ]


def credential(headers: dict[str, str]) -> str:
    """What the server was given in confidence."""
    return headers.get("authorization") or headers.get("x-key") or os.environ.get("TOKEN", "nothing")


def readable(path: Path) -> str:
    """What of a file can be read, or why not."""
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except OSError as error:
        return str(error.strerror)


def text(value: Any) -> dict[str, Any]:
    words = value if isinstance(value, str) else json.dumps(value)
    return {"content": [{"type": "text", "text": words}]}


class Server:
    """What is common to the ways to reach it; `tell` sends a message of the server's own."""

    def __init__(self, how: dict[str, Any]) -> None:
        self.how = how
        self.seen: list[dict[str, Any]] = []
        self.waiting: dict[Any, asyncio.Future[Any]] = {}

    async def answer(self, message: dict[str, Any], headers: dict[str, str], tell: Any) -> dict[str, Any] | None:
        self.seen.append({"message": message, "headers": headers})
        if "method" not in message and message.get("id") in self.waiting:
            waiting = self.waiting.pop(message["id"])
            if not waiting.done():  # its call may be gone
                waiting.set_result(message.get("result", message.get("error")))
        if "method" not in message or "id" not in message:
            return None
        method, params = message["method"], message.get("params") or {}
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
        if self.how.get("mute"):
            await asyncio.sleep(3600)
        if method == "subscriptions/listen" and self.how.pop("ends_listening", False):
            cancelled = {"requestId": message["id"], "_meta": {"io.modelcontextprotocol/subscriptionId": message["id"]}}
            tell({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancelled})
            return None
        try:
            reply["result"] = await self.result(method, params, headers, tell)
        except LookupError as error:
            reply["error"] = error.args[0]
        if method == "tools/call" and "result_type" in self.how:
            reply["result"]["resultType"] = self.how["result_type"]
        if method == "tools/call" and (how := self.how.get("answers")):
            self.spoil(reply, how, tell)
        return reply

    def spoil(self, reply: dict[str, Any], how: str, tell: Any) -> None:
        """Makes an answer one that does not fit its question, or sends another one before it."""
        false = {**text("false")}
        if how == "to another first":
            tell({"jsonrpc": "2.0", "id": reply["id"] + 1000, "result": false})
        elif how == "twice":
            tell(dict(reply))
            reply["result"] = false
        elif how == "with no result":
            reply["result"] = None
        elif how == "without an id":
            del reply["id"]
        elif how == "with an error and no id":
            reply.update(id=None, error={"code": -32700, "message": "cannot read this"})
            del reply["result"]
        else:
            ids = {"to another": reply["id"] + 1000, "as text": str(reply["id"]), "as a float": float(reply["id"])}
            reply["id"] = {**ids, "to true": True}[how]

    async def result(self, method: str, params: dict[str, Any], headers: dict[str, str], tell: Any) -> dict[str, Any]:
        versions = self.how.get("versions", ["2025-11-25"])
        modern = MODERN in versions
        about = params.get("_meta") or {}
        if method == "server/discover" and self.how.get("dies_on_probe"):
            os._exit(3)
        if method == "server/discover" and self.how.get("silent_on_probe"):
            await asyncio.sleep(3600)
        if method == "server/discover" and self.how.get("answers_anything"):
            return {}
        if method == "server/discover" and modern:
            return {
                "resultType": "complete",
                "supportedVersions": versions,
                "capabilities": {"tools": {}, **self.how.get("offers", {})},
            }
        if method == "initialize":
            if versions == [MODERN]:
                raise LookupError({"code": -32601, "message": f"only {MODERN} here"})
            if self.how.get("refuses"):
                raise LookupError({"code": -32000, "message": f"{credential(headers)} is no good"})
            wanted = params["protocolVersion"]
            return {
                "protocolVersion": wanted if wanted in versions else versions[0],
                "capabilities": {"tools": {"listChanged": True}, **self.how.get("offers", {})},
                "serverInfo": {"name": "double", "version": "1"},
            }
        if modern and about.get("io.modelcontextprotocol/protocolVersion") == MODERN:
            offered = self.how.get("client_capabilities", {"elicitation": {"form": {}, "url": {}}})
            assert about["io.modelcontextprotocol/clientCapabilities"] == offered
        if method == "subscriptions/listen" and modern:
            tell({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": {}})
            await self.follow(tell)
        if method == "tools/list":
            listed = tools(self.how)
            if self.how.get("leaks"):
                listed[0]["description"] = f"For {credential(headers)}"
                listed.append({"name": credential(headers), "inputSchema": None})
            if self.how.get("endless"):
                return {"tools": [] if "cursor" in params else listed, "nextCursor": "again"}
            at, size = int(params.get("cursor", 0)), self.how.get("page", 5)
            page: dict[str, Any] = {"tools": listed[at : at + size]}
            return {**page, "nextCursor": str(at + size)} if at + size < len(listed) else page
        if lists := self.how.get("lists", {}).get(method):
            return dict(lists[int(params.get("cursor", 0))])
        if method == "resources/read" and (resource := self.how.get("resources", {}).get(params["uri"])):
            return {"contents": [resource]}
        if method == "tools/call" and params["name"] == "ask":
            return await self.ask(params, about.get("io.modelcontextprotocol/protocolVersion") == MODERN, tell)
        if method == "tools/call":
            return await self.call(params["name"], params.get("arguments") or {}, about, headers, tell)
        raise LookupError({"code": -32601, "message": f"no method {method}"})

    async def ask(self, params: dict[str, Any], modern: bool, tell: Any) -> dict[str, Any]:
        """Has the client answer the requests in the arguments: one after another, or all in one more round."""
        given = params["arguments"]
        requests = [one for _ in range(given.get("times", 1)) for one in given["requests"]]
        if file := self.how.get("calls_file"):
            with Path(file).open("a") as lines:
                lines.write(json.dumps({key: params.get(key) for key in ("inputResponses", "requestState")}) + "\n")
        if modern and "inputResponses" in params:
            return text([*params["inputResponses"].values(), params.get("requestState")])
        if modern:
            keyed = {f"r{n}": one for n, one in enumerate(requests)}
            return {"resultType": "input_required", "inputRequests": keyed, "requestState": "opaque"}
        replies = []
        for n, one in enumerate(requests):
            number = f"ask-{len(self.seen)}-{n}"
            self.waiting[number] = asyncio.get_running_loop().create_future()
            for _ in range(2 if given.get("twice") else 1):
                tell({"jsonrpc": "2.0", "id": number, **one})
            if given.get("takes_back"):
                await asyncio.sleep(0.3)
                tell({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}})
                continue
            replies.append(await self.waiting[number])
        return text(replies)

    async def follow(self, tell: Any) -> None:
        """Tells of a change whenever the description has changed."""
        before = tools(self.how)
        while True:
            await asyncio.sleep(0.05)
            if tools(self.how) != before:
                before = tools(self.how)
                tell({"jsonrpc": "2.0", "method": "notifications/tools/list_changed", **self.how.get("besides", {})})

    async def call(
        self, name: str, given: dict[str, Any], about: dict[str, Any], headers: dict[str, str], tell: Any
    ) -> dict[str, Any]:
        if file := self.how.get("calls_file"):
            with Path(file).open("a") as lines:
                lines.write(json.dumps({"name": name, "_meta": about}) + "\n")
        if self.how.get("silent"):
            await asyncio.sleep(3600)
        if name == "echo":
            return text({"given": given, "about": about, "headers": headers})
        if name == "env":
            return text(dict(os.environ) | {"pid": os.getpid(), "pgid": os.getpgid(0)})
        if name == "argv":
            return text(sys.argv[1:])
        if name == "held":
            folder = Path("/proc/self/fd")
            held = {one.name: str(one.readlink()) for one in folder.iterdir() if one.exists()}
            return text({"cwd": str(Path.cwd()), "descriptors": held})
        if name == "peek":
            return text({one: readable(Path(f"/proc/{given['pid']}/{one}")) for one in given["names"]})
        if name == "seen":
            tell({"jsonrpc": "2.0", "id": "s1", "method": "ping"})
            for n, method in enumerate(("sampling/createMessage", "roots/list", "elicitation/create", "x" * 999), 2):
                tell({"jsonrpc": "2.0", "id": f"s{n}", "method": method, "params": {}})
            await asyncio.sleep(0.3)
            return text(self.seen)
        if name == "structured":
            return {"content": [], "structuredContent": {"sum": 3, "parts": [1, 2]}}
        if name == "fail":
            return {"content": [{"type": "text", "text": "the disk is full"}], "isError": True}
        if name == "die":
            os._exit(9)
        if name == "escape":
            import subprocess

            subprocess.Popen(["sleep", "20"], start_new_session=True)
            os._exit(9)
        if name == "huge":
            return text("x" * given["size"])
        if name == "blocks":
            return {"content": [{"type": "text", "text": str(n)} for n in range(given["count"])]}
        if name == "leak":
            raise LookupError({"code": -32000, "message": f"no right to {credential(headers)}"})
        if name == "ping":
            for n in range(given["times"]):
                tell({"jsonrpc": "2.0", "id": n, "method": "ping"})
            return text("pinged")
        if name == "noise":
            for part in given["parts"] * given.get("times", 1):
                os.write(2, part.encode())
                await asyncio.sleep(given.get("pause", 0))
            return text("noisy")
        if name == "eat":
            try:
                return text(len(bytearray(512 * 1024 * 1024)))
            except MemoryError:
                return text("no memory")
        if name == "slow":
            for n in range(given.get("steps", 0)):
                await asyncio.sleep(given.get("pause", 0.2))
                progress = {"progressToken": about["progressToken"], "progress": n}
                tell({"jsonrpc": "2.0", "method": "notifications/progress", "params": progress})
            await asyncio.sleep(given.get("last", 0.2))
            return text("at last")
        if name == "kinds":
            resource = {"uri": "file:///notes.txt", "text": "a note"}
            return {
                "content": [
                    {"type": "text", "text": "first"},
                    {"type": "image", "data": PIXEL, "mimeType": "image/png"},
                    {"type": "image", "data": "!!", "mimeType": "image/png"},
                    {"type": "audio", "data": "AAAA", "mimeType": "audio/wav"},
                    {"type": "resource", "resource": resource},
                    {"type": "resource", "resource": {"uri": "x:y", "blob": PIXEL, "mimeType": "image/png"}},
                    {"type": "resource", "resource": {"uri": "x:z", "blob": "AAAA", "mimeType": "application/pdf"}},
                    {"type": "resource_link", "uri": "https://a.test/b", "name": "b", "mimeType": "text/html"},
                    {"type": "hologram"},
                    {"type": "text", "text": "last"},
                ]
            }
        raise LookupError({"code": -32602, "message": f"no tool {name}"})


class Web:
    """The server on a free port of 127.0.0.1: `/mcp` is streamable HTTP, `/sse` HTTP with SSE, as `how` says.

    `sessions` holds those that are open; to empty it is to forget them. `json` answers without a stream, `polls` closes
    each stream before its answer, `no_get` has no stream of its own. What is asked for in `how` may change at any time.
    """

    def __init__(self, **how: Any) -> None:
        self.how = how
        self.server = Server(how)
        self.sessions: set[str] = set()
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.port = 0
        self.gone = 0
        self.strangers = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._streams: dict[str, asyncio.Queue[Any]] = {}
        self._later: dict[str, Any] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{'sse' if self.how.get('sse') else 'mcp'}"

    async def __aenter__(self) -> Self:
        self._listening = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._listening.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._listening.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self.sessions.clear()

    def drop(self) -> None:
        """Forgets every session and breaks every connection off."""
        self.sessions.clear()
        for task in self._tasks:
            task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode("latin-1").rstrip().split("\r\n")
                method, path, _ = first.split(" ")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.requests.append((method, headers))
                answering = asyncio.create_task(self._answer(method, path, headers, body, writer))
                watching = asyncio.create_task(reader.read(1))
                try:
                    done, _ = await asyncio.wait({answering, watching}, return_when=asyncio.FIRST_COMPLETED)
                    if answering not in done:
                        self.gone += 1
                        return
                    await answering
                finally:
                    answering.cancel()
                    watching.cancel()
                return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter
    ) -> None:
        def write(status: str, kind: str = "", content: bytes | None = b"", **more: str) -> None:
            lines = [f"HTTP/1.1 {status}", "Connection: close"]
            lines += [f"Content-Type: {kind}"] if kind else []
            lines += [f"Content-Length: {len(content)}"] if content is not None else []
            lines += [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
            writer.write("\r\n".join([*lines, "", ""]).encode() + (content or b""))

        def event(data: Any, name: str = "message", number: str = "") -> None:
            words = data if isinstance(data, str) else json.dumps(data)
            tag = f"id: {number}\r\nretry: 50\r\n" if number else ""
            writer.write(f": hi\r\n{tag}event: {name}\r\ndata: {words}\r\n\r\n".encode())

        how, session = self.how, headers.get("mcp-session-id", "")
        modern = MODERN in how.get("versions", [])
        if (status := how.get("status")) is not None:
            write(f"{status} Whatever", "application/json", how.get("body", "no").encode())
            return
        if where := how.get("redirects"):
            write("307 Temporary Redirect", Location=where)
            return
        if b'"tools/list"' in body and (fault := how.get("list_fault")):
            write(f"{fault} Whatever")
            return
        called = method == "POST" and b'"tools/call"' in body
        if called and b'"slow"' not in body and how.get("to_others") and headers.get("x-org-id") != "acme":
            write(f"{how['to_others']} Whatever")
            return
        if called and (fault := how.get("call_fault")):
            if fault == "breaks off after an id":
                write("200 OK", "text/event-stream", None, Content_Length="100000")
                event("", number="1")
                self._later["1"] = await self.server.answer(json.loads(body), headers, event)
                await writer.drain()
                writer.transport.abort()
            elif fault == "no such session":
                self.server.seen.append({"message": json.loads(body), "headers": headers})
                error = {"code": -32602, "message": "There is no browser session with this name"}
                said = {"jsonrpc": "2.0", "id": json.loads(body)["id"], "error": error}
                write("400 Bad Request", "application/json", json.dumps(said).encode())
            elif fault == "breaks off":
                write("200 OK", "text/event-stream", None, Content_Length="1000")
                writer.write(b'data: {"jsonrpc": "2.0", "i')
                await writer.drain()
                writer.transport.abort()
            elif fault == "ends early":
                write("200 OK", "text/event-stream", b": nothing\n\n")
            elif fault == "no JSON":
                write("200 OK", "application/json", b"<html>")
            elif fault == "huge event":
                write("200 OK", "text/event-stream", b"data: " + b"x" * 9_000_000 + b"\n\n")
            else:
                write(f"{fault} Whatever", "text/plain", b"no")
            return
        if path == "/sse" and method == "GET":
            queue: asyncio.Queue[Any] = asyncio.Queue()
            name = str(len(self._streams))
            self._streams[name] = queue
            write("200 OK", "text/event-stream", None)
            event(how.get("endpoint", f"/messages?session={name}"), "endpoint")
            follower = asyncio.create_task(self.server.follow(queue.put_nowait))
            try:
                while True:
                    if words := how.get("keeps_alive"):
                        event(words)
                    event(await queue.get())
            finally:
                follower.cancel()
        elif path.startswith("/messages?session="):
            queue = self._streams[path.rpartition("=")[2]]
            write("202 Accepted")

            async def answer() -> None:
                reply = await self.server.answer(json.loads(body), headers, queue.put_nowait)
                if reply is not None:
                    queue.put_nowait(reply)

            task = asyncio.create_task(answer())  # which goes on when the client has its 202
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif path != "/mcp":
            write("404 Not Found")
        elif session and session not in self.sessions:
            self.strangers += 1
            await asyncio.sleep(how.get("late", 0) * (self.strangers - 1))
            write("404 Not Found", "application/json", b'{"error":{"code":-32001,"message":"Session"}}')
        elif method == "DELETE":
            self.sessions.discard(session)
            write("204 No Content")
        elif method == "GET" and "last-event-id" in headers and "resume_status" in how:
            write(f"{how['resume_status']} Whatever")
        elif method == "GET" and "last-event-id" in headers:
            write("200 OK", "text/event-stream", None)
            event(self._later.pop(headers["last-event-id"]), number="2")
        elif method == "GET" and (how.get("no_get") or modern):
            write("405 Method Not Allowed")
        elif method == "GET" and "get_status" in how:
            write(f"{how['get_status']} Whatever", Location="/docs")
        elif method == "GET" and how.get("get_aborts"):
            writer.transport.abort()
        elif method == "GET" and how.get("gets"):
            write(f"{how['gets'].pop(0)} Whatever", "text/event-stream", b"data: \n\n")
        elif method == "GET" and how.get("short_get"):
            write("200 OK", "text/event-stream", b"retry: 0\ndata: \n\n")
        elif method == "GET":
            write("200 OK", "text/event-stream", None)
            if words := how.get("keeps_alive"):
                event(words)
            await self.server.follow(event)
        else:
            message = json.loads(body)
            if not modern and message.get("method") != "initialize" and not session and how.get("sessions", True):
                write(
                    "400 Bad Request", "application/json", b'{"jsonrpc":"2.0","error":{"code":-32000,"message":"No"}}'
                )
                return
            if "id" not in message or "method" not in message:
                await self.server.answer(message, headers, None)
                write("400 Bad Request" if how.get("no_notices") else "202 Accepted")
                return
            more = {}
            if message["method"] == "initialize" and how.get("sessions", True):
                more["Mcp_Session_Id"] = f"s{len(self.requests)}"
                self.sessions.add(more["Mcp_Session_Id"])
            if how.get("json"):
                reply = await self.server.answer(message, headers, lambda _: None)
                assert reply
                failed = "error" in reply and modern
                content = json.dumps([reply] if how.get("batches") else reply).encode()
                write("404 Not Found" if failed else "200 OK", "application/json", content, **more)
                return
            write("200 OK", "text/event-stream", None, **more)
            if words := how.get("keeps_alive"):
                event(words)
            if how.get("polls") and message["method"] == "tools/call":
                event("", number="1")
                self._later["1"] = await self.server.answer(message, headers, event)
                if how.get("forgets"):
                    self.sessions.clear()
                return
            reply = await self.server.answer(message, headers, event)
            event([reply] if how.get("batches") else reply)
            if how.get("never_closes"):
                await asyncio.sleep(3600)


async def stdio() -> None:
    """Lines on standard input and output, with the faults that are asked for."""
    how = json.loads(os.environ.get("MCP_DOUBLE", "{}"))
    server = Server(how)
    if how.get("ignores_end"):
        import signal

        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if how.get("child"):
        import subprocess

        child = subprocess.Popen(["sleep", "300"])
        Path(how["child"]).write_text(f"{os.getpid()} {child.pid}")
    if words := how.get("stderr"):
        print(words, file=sys.stderr, flush=True)
    if code := how.get("exits"):
        sys.exit(code)
    while how.get("spins"):
        pass

    def tell(message: Any) -> None:
        line = json.dumps(message, ensure_ascii=False).encode() + b"\n"
        if how.get("garbage"):
            os.write(1, b"Listening on port 80\n\xff\xfe\n[1]\n\n")
        for at in range(0, len(line), how.get("cut", len(line))):
            os.write(1, line[at : at + how.get("cut", len(line))])

    async def handle(message: dict[str, Any]) -> None:
        reply = await server.answer(message, {}, tell)
        if reply is not None:
            tell([reply] if how.get("batches") else reply)

    await asyncio.sleep(how.get("slow_start", 0))
    if how.get("versions", [""])[0] != MODERN:
        follower = asyncio.create_task(server.follow(tell))
        assert follower
    reader = asyncio.StreamReader(limit=2**24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tasks = set()
    while line := await reader.readline():
        tasks.add(asyncio.create_task(handle(json.loads(line))))
    while how.get("ignores_end"):
        await asyncio.sleep(1)


if __name__ == "__main__":
    asyncio.run(stdio())
