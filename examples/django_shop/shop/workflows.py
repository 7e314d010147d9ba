"""What the shop does with an order. Run it with: python manage.py run_worker"""

from __future__ import annotations

from datetime import timedelta

import lockstep
from django.db import connection, transaction

from .models import Order, Payment

app = lockstep.App()
patiently = lockstep.Retry(max_attempts=5, delay=timedelta(milliseconds=100))


@app.step(commits_itself=True, retries=patiently)
def book_payment(order_id: int) -> int:
    """Book the payment of an order: exactly once, with the checkpoint of this step."""
    try:
        with transaction.atomic(durable=True):
            order = Order.objects.select_for_update().get(pk=order_id)
            order.state = "paid"
            order.save()
            payment = Payment.objects.create(order=order, amount_cents=order.amount_cents)

            with connection.cursor() as cursor:
                cursor.execute(*lockstep.checkpoint(payment.pk))
            return payment.pk
    finally:
        connection.close()  # back to the pool, as at the end of a request


@app.step(retries=patiently)
def send_receipt(order_id: int, payment_id: int) -> str:
    """Send a receipt; the mail may go out twice, the payment is not booked twice."""
    return f"order {order_id} is paid, payment {payment_id}"


@app.workflow
def fulfil_order(order_id: int) -> str:
    payment_id = book_payment(order_id)
    return send_receipt(order_id, payment_id)
