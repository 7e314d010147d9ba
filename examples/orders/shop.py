"""A shop that fulfils orders. Run it with: lockstep worker shop:app --queue orders"""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

import lockstep
from psycopg import AsyncConnection

app = lockstep.App()
patiently = lockstep.Retry(max_attempts=8, delay=timedelta(milliseconds=100), jitter=0.2)


@app.step(retries=patiently)
async def reserve_stock(order_id: int) -> None:
    """Ask the warehouse to set the goods aside."""
    await call_service()


@app.step(retries=patiently)
async def charge(order_id: int) -> str:
    """
    Charge the customer's card and return the id of the charge.

    A crash right after the call repeats it, so the order is the idempotency key under
    which the payment provider knows a repetition and answers with the same charge.
    """
    await call_service()
    return f"charge-for-order-{order_id}"


@app.transaction
async def mark_paid(conn: AsyncConnection, order_id: int, charge_id: str) -> None:
    """Book the payment, in the transaction that also records this step: exactly once."""
    await conn.execute(
        "INSERT INTO payments (order_id, charge_id, amount_cents) "
        "SELECT id, %s, amount_cents FROM orders WHERE id = %s",
        (charge_id, order_id),
    )
    await conn.execute("UPDATE orders SET state = 'paid' WHERE id = %s", (order_id,))


@app.transaction
async def ship(conn: AsyncConnection, order_id: int) -> None:
    """Hand the order over to the carrier."""
    await conn.execute("UPDATE orders SET state = 'shipped' WHERE id = %s", (order_id,))


@app.workflow(queue_name="orders")
async def fulfil_order(order_id: int) -> str:
    """Take an order from the shelf to the door; each await is a checkpoint."""
    await reserve_stock(order_id)
    charge_id = await charge(order_id)
    await mark_paid(order_id, charge_id)
    await lockstep.set_event("state", "paid")
    await ship(order_id)
    await lockstep.set_event("state", "shipped")
    return charge_id


async def call_service() -> None:
    """Stand in for somebody else's service: slow, and at times not there."""
    await asyncio.sleep(random.uniform(0.05, 0.2))
    if random.random() < 0.05:
        raise ConnectionError("service unavailable")
