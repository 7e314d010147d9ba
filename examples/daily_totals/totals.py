"""Each night, the orders of the day before become a row of daily_totals."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import lockstep
from psycopg import AsyncConnection

app = lockstep.App()
BERLIN = ZoneInfo("Europe/Berlin")


@app.transaction
async def add_up(conn: AsyncConnection, day: date) -> int:
    cursor = await conn.execute(
        "INSERT INTO daily_totals (day, order_count, amount)"
        " SELECT %(day)s, count(*), coalesce(sum(amount), 0) FROM orders"
        " WHERE (placed_at AT TIME ZONE 'Europe/Berlin')::date = %(day)s"
        " RETURNING order_count",
        {"day": day},
    )
    ((order_count,),) = await cursor.fetchall()
    return order_count


@app.scheduled("0 1 * * *", time_zone="Europe/Berlin", on_missed="all")
@app.workflow
async def close_day(scheduled_at: datetime) -> str:
    day = scheduled_at.astimezone(BERLIN).date() - timedelta(days=1)
    return f"{day}: {await add_up(day)} orders"
