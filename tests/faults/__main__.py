"""``python -m faults``: one run of the harness; exits with 1 if a promise was broken."""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
from pathlib import Path

from .injections import KINDS
from .replicas import FailOver, ReplicatedSite
from .run import Options, Run, folder_for
from .site import Site


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--workflows", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--spacing", type=float, default=1.0, help="mean seconds between faults")
    parser.add_argument("--replicated", action="store_true", help="two servers, with failovers")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS))
    parser.add_argument("--keep", type=Path, help="folder for journal and logs")
    parser.add_argument(
        "--without-reader", action="store_true", help="do not measure what a snapshot costs first"
    )
    return parser.parse_args()


def kinds_for(is_replicated: bool) -> list[str]:
    """Return what can be injected: two servers have neither a proxy nor disks of their own."""
    if is_replicated:
        return [n for n, fault in KINDS.items() if fault.part != "network" and "disk" not in n]
    return [name for name in KINDS if name != FailOver.kind]


def main() -> int:
    asked = parse()
    options = Options(
        seed=asked.seed,
        faults=asked.faults,
        workflows=asked.workflows,
        workers=asked.workers,
        spacing=asked.spacing,
        kinds=asked.kinds or kinds_for(asked.replicated),
        measures_reader=not asked.without_reader,
        is_replicated=asked.replicated,
    )
    print(f"seed {options.seed}", flush=True)
    folder = folder_for(asked.keep or Path(tempfile.mkdtemp(prefix="lockstep-faults-")))
    site = (ReplicatedSite if asked.replicated else Site)(folder, options.workers)
    try:
        report = asyncio.run(Run(site, options).run())
        print(report)
        if not report.is_good:
            site.dump()
    finally:
        site.close()
    if report.is_good and asked.keep is None:
        shutil.rmtree(folder)
    else:
        print(f"journal, logs and, after a violation, a dump of the database: {folder}")
    return 0 if report.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
