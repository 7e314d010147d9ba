"""A shop on SQLAlchemy. Run it with: lockstep worker shop:app"""

from __future__ import annotations

from datetime import timedelta

import lockstep
from models import Order, Payment, url
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

app = lockstep.App()
begin = async_sessionmaker(create_async_engine(url)).begin
patiently = lockstep.Retry(max_attempts=5, delay=timedelta(milliseconds=100))


@app.step(commits_itself=True, retries=patiently)
async def book_payment(order_id: int) -> int:
    """Book the payment of an order: exactly once, with the checkpoint of this step."""
    async with begin() as session:
        order = await session.get_one(Order, order_id, with_for_update=True)
        order.state = "paid"
        payment = Payment(order_id=order.id, amount_cents=order.amount_cents)
        session.add(payment)
        await session.flush()  # writes the rows, and gives the payment its id

        connection = await session.connection()
        await connection.exec_driver_sql(*lockstep.checkpoint(payment.id))
        return payment.id


@app.step(retries=patiently)
async def send_receipt(order_id: int, payment_id: int) -> str:
    """Send a receipt; the mail may go out twice, the payment is not booked twice."""
    return f"order {order_id} is paid, payment {payment_id}"


@app.workflow
async def fulfil_order(order_id: int) -> str:
    payment_id = await book_payment(order_id)
    return await send_receipt(order_id, payment_id)
