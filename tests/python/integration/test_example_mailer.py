"""The mailer of examples/ runs as written, and its queue keeps to its limits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from harness import Database, WorkerProcess, stopped_at_end

FOLDER = Path(__file__).parents[3] / "examples" / "mailer"

# a claim reads the clock before it counts what others have finished at that moment
AT_ONCE = """
SELECT max(others.count)
FROM lockstep.workflow_status AS w
CROSS JOIN LATERAL (
    SELECT count(*)
    FROM lockstep.workflow_status AS o
    WHERE o.started_at <= w.started_at
        AND o.completed_at - interval '20 ms' > w.started_at
        AND (%s::text IS NULL OR o.queue_partition_key = %s)
) AS others
"""
IN_A_SECOND = """
SELECT max(w.count)
FROM (
    SELECT count(*) OVER (ORDER BY s.started_at RANGE BETWEEN CURRENT ROW AND '999 ms' FOLLOWING)
    FROM lockstep.workflow_status AS s
) AS w
"""


def test_mails_of_all_customers_are_sent_within_the_limits(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{FOLDER}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    workers = [WorkerProcess(database, "mailer:app", each, "--queue", "mail") for each in folders]
    with stopped_at_end(workers):
        for worker in workers:
            worker.wait_until_ready()
        done = subprocess.run(
            [sys.executable, "send_mails.py"],
            cwd=FOLDER,
            env={**os.environ, "LOCKSTEP_DATABASE_URL": database.dsn},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        '"Your new password" to ada@big.example',
        '"3 changes: logo, address, tariff" to owner@small.example',
        "66 mails sent",
        "first of the big customer: password",
        "done first: small.example",
    ]
    assert database.rows("SELECT DISTINCT status FROM lockstep.workflow_status") == [("SUCCESS",)]
    assert database.value(AT_ONCE, None, None) == 3
    assert database.value(AT_ONCE, "big.example", "big.example") == 2
    assert database.value(IN_A_SECOND) <= 30
