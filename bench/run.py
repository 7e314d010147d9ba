"""
The benchmark: ``python -m bench.run`` inside a cluster, or ``make bench`` for all of it.

Writes what it measured to a JSON file in bench/results, and prints a table.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import signal
import sys
import time
from pathlib import Path

from .cluster import install_yardstick
from .machine import check_disk, describe, file_name
from .scale import FULL, QUICK
from .session import Session
from .tables import print_tables
from .workloads import WORKLOADS

RESULTS = Path(__file__).parent / "results"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__.strip().splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, for a smoke test")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=WORKLOADS, default=WORKLOADS)
    parser.add_argument("--list", action="store_true", help="list the workloads and stop")
    parser.add_argument("--output", type=Path, help="the JSON file to write")
    return parser.parse_args()


def _list_workloads() -> None:
    for name in WORKLOADS:
        module = importlib.import_module(f"bench.workloads.{name}")
        print(f"{name:15} {(module.__doc__ or '').strip().splitlines()[0]}")


def main() -> int:
    """Run the workloads that were asked for; return 1 if one of them failed."""
    arguments = _arguments()
    if arguments.list:
        _list_workloads()
        return 0
    # so that the workers end with us
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    scale = QUICK if arguments.quick else FULL
    check_disk(scale.free_disk_bytes)
    machine = describe()
    install_yardstick()
    session = Session(scale)
    seconds: dict[str, float] = {}
    for name in WORKLOADS:
        if name in arguments.only:
            began = time.monotonic()
            with session.attempt(name, "all"):
                importlib.import_module(f"bench.workloads.{name}").run(session)
            seconds[name] = round(time.monotonic() - began, 1)
    results = {
        "date": datetime.date.today().isoformat(),
        "scale": scale.name,
        **machine,
        "seconds": seconds,
        "failures": session.failures,
        "samples": session.samples,
    }
    path = arguments.output or RESULTS / file_name(results)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    print_tables(results)
    print(f"\n{path}: {sum(seconds.values()):.0f} s")
    return 1 if session.failures else 0


if __name__ == "__main__":
    sys.exit(main())
