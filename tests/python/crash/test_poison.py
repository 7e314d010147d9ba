"""A workflow that kills its worker each time ends in the dead letter and takes no other along."""

from __future__ import annotations

import time
from collections.abc import Callable

from harness import Database, WorkerProcess

StartWorker = Callable[..., WorkerProcess]

UNFINISHED = "SELECT count(*) FROM lockstep.workflow_status WHERE completed_at IS NULL"
HOWS = ("exit", "kill", "segfault")


def run_under_supervision(database: Database, start_worker: StartWorker, timeout: float) -> int:
    """Keep two workers running, as a supervisor does, until all has ended; return the deaths."""
    workers = [start_worker("poison_app:app", "--concurrency", "100") for _ in range(2)]
    death_count = 0
    give_up_at = time.monotonic() + timeout
    while database.value(UNFINISHED):
        assert time.monotonic() < give_up_at, database.rows(
            "SELECT workflow_name, status, attempts, count(*)"
            " FROM lockstep.workflow_status GROUP BY 1, 2, 3"
        )
        for place, worker in enumerate(workers):
            if worker.process.poll() is not None:
                death_count += 1
                workers[place] = start_worker("poison_app:app", "--concurrency", "100")
        time.sleep(0.05)
    return death_count


def test_poison_ends_in_the_dead_letter_and_takes_no_other_along(
    database: Database, start_worker: StartWorker
) -> None:
    for how in HOWS:
        database.rows(
            "SELECT lockstep.enqueue_workflow('poison', 'default', jsonb_build_array(%s::text),"
            " max_attempts => 3)",
            how,
        )
    database.rows(
        "SELECT lockstep.enqueue_workflow('innocent', 'default', '[0.1]', max_attempts => 3)"
        " FROM generate_series(1, 200)"
    )
    death_count = run_under_supervision(database, start_worker, timeout=120)

    outcomes = database.rows(
        "SELECT workflow_name, status, count(*), max(attempts) FROM lockstep.workflow_status"
        " GROUP BY 1, 2 ORDER BY 1, 2"
    )
    assert [row[:3] for row in outcomes] == [
        ("innocent", "SUCCESS", 200),
        ("poison", "MAX_RECOVERY_ATTEMPTS_EXCEEDED", 3),
    ]
    assert max(row[3] for row in outcomes) == 3
    assert death_count <= 3 * len(HOWS)
