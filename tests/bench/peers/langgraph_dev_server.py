"""LangGraph's own server as `langgraph dev` runs it, which needs no licence: its state in memory."""

import os
import socket
import sys
from pathlib import Path

from langgraph_api.cli import run_server  # type: ignore[import-not-found]

if __name__ == "__main__":
    base_url, folder = sys.argv[1:]
    graph = f"{Path(__file__).resolve().parent}/langgraph_graph.py:bench"
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    print(f"ready at http://127.0.0.1:{port}", flush=True)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nobody reads its log from there, which would then stop it
    os.chdir(folder)
    run_server(
        "127.0.0.1",
        port,
        reload=False,
        graphs={"bench": graph},
        n_jobs_per_worker=20,
        open_browser=False,
        env={"BENCH_BASE_URL": base_url},
        server_level="WARNING",
        allow_blocking=True,
    )
