"""Enqueue workflows, look at their results and send messages, until a file says stop."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import lockstep

stop = Path(sys.argv[1])
count = 0
with lockstep.Client() as client:
    while not stop.exists():
        workflow_id = client.enqueue("books", f"load {count}", workflow_id=f"load {count}")
        client.send(workflow_id, "unread", topic="nobody")
        if count % 5 == 0:
            output = client.result(workflow_id, timeout=timedelta(seconds=60))
            assert output == [f"load {count} first", f"load {count} second"], output
        count += 1
print(count)
