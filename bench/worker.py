"""Runs one worker process of a peer: ``python -m bench.worker PEER OPTIONS-AS-JSON``."""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import time


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


def ready() -> None:
    """Tell the benchmark that the worker begins to look for work."""
    print("READY", flush=True)


def stamp(n: int) -> int:
    """Tell the benchmark that the body of workflow ``n`` began, and when (Unix time)."""
    now = time.time()
    print(n, f"{now:.6f}", flush=True)
    return n


def main() -> None:
    """Run the ``work`` function of the peer's module until SIGTERM."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    importlib.import_module(f"bench.peers.{sys.argv[1]}").work(json.loads(sys.argv[2]))


if __name__ == "__main__":
    main()
