"""What happens to invoices. Run it with: lockstep worker billing:app"""

from __future__ import annotations

from datetime import timedelta

import lockstep
from psycopg import AsyncConnection

app = lockstep.App()
TIME_TO_PAY = timedelta(seconds=3)  # days=30, outside of examples


@app.step(retries=lockstep.Retry(max_attempts=5, delay=timedelta(milliseconds=100)))
async def send_mail(number: int, text: str) -> str:
    """Send a mail about an invoice; it may go out twice."""
    return f"mail about invoice {number}: {text}"


@app.transaction
async def fall_due(conn: AsyncConnection, number: int) -> str:
    """Let an invoice fall due unless it was paid, and return the state that it has then."""
    cursor = await conn.execute(
        "SELECT state FROM invoices WHERE number = %s FOR UPDATE", (number,)
    )
    (state,) = await cursor.fetchone()
    if state == "sent":
        cursor = await conn.execute(
            "SELECT lockstep.fire_event(i, 'fall_due') FROM invoices AS i WHERE number = %s",
            (number,),
        )
        (state,) = await cursor.fetchone()
    return state


@app.workflow
async def collect(number: int) -> str:
    """Collect the money of an invoice: started by the event "send"."""
    await send_mail(number, "please pay")
    await lockstep.sleep(TIME_TO_PAY)
    state = await fall_due(number)
    if state == "overdue":
        return await send_mail(number, "you forgot to pay")
    return f"invoice {number} is {state}"


@app.workflow
async def thank(number: int) -> str:
    """Thank for the payment of an invoice: started by the event "pay"."""
    return await send_mail(number, "thank you")
