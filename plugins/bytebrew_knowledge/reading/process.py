"""The reader process: reads each file in a forked child with resource limits."""

import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from .blocks import Block, Unreadable
from .chunks import split
from .docx_pdf import docx, library, pdf
from .html import html
from .text_formats import markdown, table, text, tree

READERS: Mapping[str, Callable[[Path], Iterator[Block]]] = {
    "txt": text,
    "md": markdown,
    "html": html,
    "csv": table,
    "json": tree,
    "pdf": pdf,
    "docx": docx,
}
MOST_SPOOL = 256 * 1024 * 1024
"""Limit in bytes of a child's output."""
MOST_ANSWER = 4096


def serve() -> None:
    """Answers each job, a line on standard input, with a line: the number of chunks in its spool, or an error."""
    for number in (signal.SIGTERM, signal.SIGINT):  # sent to the whole service; the engine ends its reader itself
        signal.signal(number, signal.SIG_IGN)
    for line in sys.stdin.buffer:
        job = json.loads(line)
        if job["type"] == "pdf":  # once, before the fork
            with suppress(Unreadable):
                library()
        mine, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(mine)
            _read(job, theirs)
        os.close(theirs)
        with os.fdopen(mine, "rb") as pipe:
            answer = pipe.read(MOST_ANSWER)
        _, status = os.waitpid(child, 0)
        sys.stdout.buffer.write((answer if os.waitstatus_to_exitcode(status) == 0 else _ended(status, job)) + b"\n")
        sys.stdout.buffer.flush()


def _read(job: dict[str, Any], answer: int) -> NoReturn:
    """Reads one file within the job's limits, then exits."""
    os.nice(10)
    seconds, memory = max(1, int(job["seconds"])), job["memory"]
    signal.alarm(seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_SPOOL, MOST_SPOOL))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    result: dict[str, Any]
    try:
        result = {"chunks": _spool(Path(job["source"]), job["type"], Path(job["target"]))}
    except Unreadable as error:
        result = {"error": str(error)[:500]}
    except MemoryError:
        result = {"error": _memory(job)}
    except Exception as error:  # noqa: BLE001 - whatever a file does to its reader is the file's
        result = {"error": f"It cannot be read: {type(error).__name__}: {str(error)[:300]}"}
    os.write(answer, json.dumps(result, ensure_ascii=False).encode("utf-8", "replace"))  # shorter than MOST_ANSWER
    os._exit(0)


def _spool(source: Path, kind: str, target: Path) -> int:
    count = 0
    with target.open("x", encoding="utf-8", errors="replace") as spool:
        for count, chunk in enumerate(split(READERS[kind](source)), 1):  # noqa: B007
            spool.write(json.dumps(chunk, ensure_ascii=False) + "\n")
    return count


def _memory(job: dict[str, Any]) -> str:
    return f"Reading it takes more than {job['memory'] // 1024**2} MiB of memory"


def _ended(status: int, job: dict[str, Any]) -> bytes:
    code = os.waitstatus_to_exitcode(status)
    if code in (-signal.SIGALRM, -signal.SIGXCPU):
        message = f"Reading it takes longer than {job['seconds']} s"
    else:
        message = f"Its reader was ended by {signal.Signals(-code).name}" if code < 0 else "Its reader failed"
    return json.dumps({"error": message}).encode()
