"""How a peer's application is served: uvicorn with uvloop and httptools, on a free port that is printed."""

import socket
from typing import Any


def serve(app: Any) -> None:
    """Serves until the process ends."""
    import uvicorn  # type: ignore[import-not-found]  # the peer's own

    sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(f"ready at http://127.0.0.1:{sock.getsockname()[1]}", flush=True)
    uvicorn.run(app, fd=sock.fileno(), log_level="warning", access_log=False, loop="uvloop", http="httptools")
