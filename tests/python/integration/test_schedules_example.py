"""examples/daily_totals runs as written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from harness import Database
from servers import die_with_parent
from waiting import eventually

EXAMPLE = Path(__file__).parents[3] / "examples" / "daily_totals"


def test_days_of_the_past_are_closed_once(database: Database, tmp_path: Path) -> None:
    database.rows((EXAMPLE / "schema.sql").read_text())
    environment = {
        **os.environ,
        "DATABASE_URL": database.dsn,
        "PYTHONDONTWRITEBYTECODE": "1",
    }

    def fill(first: str, last: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "fill.py", first, last],
            cwd=EXAMPLE,
            env=environment,
            text=True,
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr + log.read_text()
        return done.stdout.splitlines()

    log = tmp_path / "log"
    with log.open("w") as output:
        worker = subprocess.Popen(
            [sys.executable, "-m", "lockstep.cli", "worker", "totals:app"],
            cwd=EXAMPLE,
            env=environment,
            stdout=output,
            stderr=output,
            preexec_fn=die_with_parent,
        )
    try:
        eventually(lambda: database.value("SELECT count(*) FROM lockstep.schedule"), "the schedule")
        assert fill("2026-03-23", "2026-03-24") == [
            "2 days to close",
            "2026-03-23: 1 orders",
            "2026-03-24: 3 orders",
        ]
        # over the change of the clock, and over days that are closed already
        printed = fill("2026-03-24", "2026-03-30")
    finally:
        worker.kill()
        worker.wait()
    assert printed[0] == "6 days to close"
    assert printed[1:] == [
        "2026-03-23: 1 orders",
        *(f"2026-03-{day}: 3 orders" for day in range(24, 31)),
    ]
    assert database.rows(
        "SELECT day::text, order_count, amount::int FROM daily_totals ORDER BY day"
    ) == [
        ("2026-03-23", 1, 10),
        *((f"2026-03-{day}", 3, 30) for day in range(24, 31)),
    ]
