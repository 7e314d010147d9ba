"""Closes the days of the past: python fill.py FIRST-DAY LAST-DAY."""

from __future__ import annotations

import sys
from datetime import date, datetime, time, timedelta

import lockstep
from totals import BERLIN

first, last = (datetime.combine(date.fromisoformat(day), time(), BERLIN) for day in sys.argv[1:])
with lockstep.Client() as client:
    # a day is closed in the night that follows it
    filling = client.backfill_schedule(
        "close_day", first + timedelta(days=1), last + timedelta(days=2)
    )
    print(client.result(filling), "days to close")
    days = [
        info.workflow_id
        for info in client.iterate(headers={"schedule_name": "close_day"})
        if info.workflow_name == "close_day"
    ]
    for workflow_id in sorted(days):
        print(client.result(workflow_id))
