"""``python -m soak``: exits with 1 if something grows, is stuck, or breaks a promise."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from faults.run import Options, folder_for

from .plot import draw
from .run import KINDS, Soak
from .site import SoakSite


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=40, help="workflows per second")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    parser.add_argument("--workers", type=int, default=3, help="beside the one that no fault kills")
    parser.add_argument("--spacing", type=float, default=15, help="mean seconds between faults")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("bench/results/soak"),
        help="where to write the samples (.json) and the plot (.svg)",
    )
    return parser.parse_args()


def main() -> int:
    asked = parse()
    seconds = asked.minutes * 60
    options = Options(
        seed=asked.seed,
        faults=max(1, round(seconds / asked.spacing)),
        workflows=round(asked.rate * seconds),
        workers=asked.workers,
        spacing=asked.spacing,
        kinds=KINDS,
    )
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="lockstep-soak-") as temporary:
        site = SoakSite(folder_for(Path(temporary)), options.workers)
        try:
            soak = Soak(site, options, asked.rate)
            asyncio.run(soak.run())
        finally:
            site.close()
    print(soak)
    soak.write(asked.output.with_suffix(".json"))
    title = (
        f"{asked.minutes:g} minutes, {asked.rate:g} workflows/s,"
        f" {sum(soak.report.injected.values())} faults"
    )
    draw(soak.samples, soak.warm_after, soak.crashes, title, asked.output.with_suffix(".svg"))
    return 0 if soak.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
