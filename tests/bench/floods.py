"""Floods of one engine by bare sockets: what it costs in memory, and for how long another client waits meanwhile."""

import argparse
import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from bytebrew.testing import ADMIN

SECONDS = 60.0
"""The longest time that another client waits for."""
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, PRIORITY, RESET, SETTINGS, PING, WINDOW, CONTINUATION = 1, 2, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS = 1, 4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame of HTTP/2 (RFC 9113 section 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def text(value: bytes) -> bytes:
    """A string of HPACK of up to 126 bytes."""
    return bytes((len(value),)) + value


def head(path: bytes) -> bytes:
    """The packed head of a GET."""
    return b"\x82\x86" + (b"\x04" + text(path)) + (b"\x01" + text(b"a"))


def request(stream: int, path: bytes = b"/x", flags: int = END_STREAM | END_HEADERS) -> bytes:
    """A whole request."""
    return frame(HEADERS, flags, stream, head(path))


def http2(*settings: tuple[int, int]) -> bytes:
    """How a client begins."""
    return PREFACE + frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *one) for one in settings))


def resets(count: int) -> bytes:
    """Requests that are given up at once."""
    pairs = (request(n) + frame(RESET, 0, n, b"\0\0\0\x08") for n in range(1, 2 * count, 2))
    return http2() + b"".join(pairs)


def continued(count: int) -> bytes:
    """Heads that do not end."""
    return http2() + frame(HEADERS, END_STREAM, 1, head(b"/x")) + frame(CONTINUATION, 0, 1) * count


def many(kind: int, payload: bytes, count: int, stream: int = 0) -> bytes:
    """The same frame again and again."""
    return http2() + frame(kind, 0, stream, payload) * count


def unread(path: bytes, count: int) -> bytes:
    """Requests whose answers may not be sent."""
    return http2((SETTINGS, 0)) + b"".join(request(n, path) for n in range(1, 2 * count, 2))


def empty(count: int) -> bytes:
    """A body of nothing."""
    body = frame(0, 0, 1) * count
    return http2() + frame(HEADERS, END_HEADERS, 1, b"\x83\x86\x04" + text(b"/x") + b"\x01" + text(b"a")) + body


def malformed(count: int) -> bytes:
    """Requests that have to be reset."""
    return http2() + b"".join(request(n, b"/\xff") for n in range(1, 2 * count, 2))


def overflowing(count: int) -> bytes:
    """Requests whose windows overflow, so that they have to be reset."""
    more = struct.pack(">I", 2**31 - 1)
    pairs = (request(n) + frame(WINDOW, 0, n, more) for n in range(1, 2 * count, 2))
    return http2() + b"".join(pairs)


def slow_body(path: str, size: int, *, sent: float = 0.95) -> bytes:
    """A request over HTTP/1.1 whose body stops short of its end."""
    stamp = int(time.time())
    lines = [f"POST {path} HTTP/1.1", "Host: a", f"Authorization: Bearer {ADMIN}", f"X-Webhook-Timestamp: {stamp}"]
    lines.append(f"X-Webhook-Signature: sha256={'0' * 64}")
    lines += ["Content-Type: application/json", f"Content-Length: {size}", "", ""]
    return "\r\n".join(lines).encode() + b"x" * int(size * sent)


FLOODS: dict[str, tuple[int, Callable[[], bytes]]] = {
    "3,000 requests reset": (1, lambda: resets(3000)),
    "5,000 requests reset": (1, lambda: resets(5000)),
    "100,000 PINGs": (1, lambda: many(PING, bytes(8), 100_000)),
    "100,000 SETTINGS": (1, lambda: many(SETTINGS, b"", 100_000)),
    "100,000 windows": (1, lambda: many(WINDOW, b"\0\0\0\1", 100_000)),
    "20,000 priorities": (1, lambda: many(PRIORITY, b"\0\0\0\0\1", 20_000, 3)),
    "100,000 empty DATA": (1, lambda: empty(100_000)),
    "100,000 CONTINUATION": (1, lambda: continued(100_000)),
    "shut windows": (4, lambda: unread(b"/api/v1/openapi.json", 1000)),
    "400 slow webhooks": (400, lambda: slow_body("/api/v1/webhooks/flooded", 1_048_576)),
    "400 slow uploads": (400, lambda: slow_body("/api/v1/schemas/demo/chat", 4_000_000)),
    "1,000 unread answers": (1000, lambda: b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: a\r\n\r\n"),
    "2,000 half heads": (2000, lambda: b"GET / HTTP/1.1\r\nHost: " + b"a" * 8000),
}


class Bystander(threading.Thread):
    """Another client, which looks at the health of the engine all the time; `longest` is what it waited at most."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url, self.longest, self.failed = f"{url}/api/v1/health", 0.0, 0
        self.ended = threading.Event()

    def run(self) -> None:
        """Asks until it is ended."""
        while not self.ended.is_set():
            began = time.monotonic()
            try:
                urllib.request.urlopen(self.url, timeout=SECONDS).read()
            except OSError:
                self.failed += 1
            self.longest = max(self.longest, time.monotonic() - began)
            self.ended.wait(0.02)


def memory(pid: int) -> int:
    """Resident bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def serving(command: list[str]) -> Iterator[tuple[int, str]]:
    """The process and the URL of an engine with an empty folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        given = {"BYTEBREW_DATA_DIR": folder, "BYTEBREW_PORT": "0", "BYTEBREW_BOOTSTRAP_ADMIN_TOKEN": ADMIN}
        process = subprocess.Popen(
            [*command, "serve"], env=os.environ | given, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        try:
            assert process.stdout is not None
            yield process.pid, process.stdout.readline().rsplit(" ", 1)[1].strip()
        finally:
            process.kill()
            process.wait()


def make_webhook(url: str) -> None:
    """One whose requests have bodies that are read."""
    headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": "application/json"}
    ask = urllib.request.Request(f"{url}/api/v1/agents", headers=headers)
    agent = json.load(urllib.request.urlopen(ask))[0]["name"]
    body = json.dumps({"name": "flooded", "agent": agent}).encode()
    urllib.request.urlopen(urllib.request.Request(f"{url}/api/v1/webhooks", body, headers)).close()


def flood(address: tuple[str, int], data: bytes, connections: int, seconds: float) -> None:
    """Sends the same over so many connections, as fast as it is taken, and reads nothing."""
    until = time.monotonic() + seconds
    open_ones: dict[socket.socket, memoryview] = {}
    for _ in range(connections):
        with contextlib.suppress(OSError):
            one = socket.create_connection(address, 5)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.settimeout(0.05)
            open_ones[one] = memoryview(data)
    while open_ones and time.monotonic() < until:
        for one, left in list(open_ones.items()):
            try:
                open_ones[one] = left[one.send(left) :] if left else left
            except TimeoutError:
                pass
            except OSError:
                del open_ones[one]
        if not any(open_ones.values()):
            break
    time.sleep(max(0.0, until - time.monotonic()))
    for one in open_ones:
        one.close()


def main() -> None:
    """A line for each flood."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="how long a flood is held")
    parser.add_argument("--only", default="", help="floods with these words in their names")
    given = parser.parse_args()
    for name, (connections, data) in FLOODS.items():
        if given.only not in name:
            continue
        with serving([sys.executable, "-m", "bytebrew"]) as (pid, url):
            bystander = Bystander(url)
            urllib.request.urlopen(f"{url}/api/v1/openapi.json").read()
            make_webhook(url)
            before = most = memory(pid)
            bystander.start()
            time.sleep(0.3)
            host, port = url.removeprefix("http://").rsplit(":", 1)
            flooding = threading.Thread(
                target=flood, args=((host, int(port)), data(), connections, given.seconds), daemon=True
            )
            flooding.start()
            while flooding.is_alive():
                most = max(most, memory(pid))
                time.sleep(0.02)
            bystander.ended.set()
            bystander.join(SECONDS)
            line = {
                "flood": name,
                "bytes": len(data()) * connections,
                "MB": round((most - before) / 1e6, 1),
                "longest wait": round(bystander.longest, 2),
                "failed": bystander.failed,
            }
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
