"""Workflows of a billing service. Run it with: lockstep worker billing:app --queue billing"""

from __future__ import annotations

import asyncio
from datetime import date

import lockstep
from psycopg import AsyncConnection

app = lockstep.App()


@app.step(retries=lockstep.Retry(max_attempts=5))
async def mail_invoice(id: int) -> None:
    """Stand in for a mail service: slow, and it knows a repetition by the invoice's id."""
    await asyncio.sleep(0.01)


@app.transaction
async def mark_sent(conn: AsyncConnection, id: int, month: date) -> None:
    """Note that the invoice went out; this UPDATE starts nothing, for it is not paid by it."""
    await conn.execute(
        "UPDATE invoices SET state = 'sent' WHERE id = %s AND month = %s AND state = 'new'",
        (id, month),
    )


@app.transaction
async def insert_receipt(conn: AsyncConnection, invoice_id: int, amount_cents: int) -> None:
    """Write the receipt, in the transaction that also records this step: exactly once."""
    await conn.execute(
        "INSERT INTO receipts (invoice_id, amount_cents) VALUES (%s, %s)",
        (invoice_id, amount_cents),
    )


@app.workflow(queue_name="billing")
async def send_invoice(id: int, month: date) -> None:
    """Send an invoice; its arguments are the primary key of the row that started it."""
    await mail_invoice(id)
    await mark_sent(id, month)


@app.workflow(queue_name="billing")
async def write_receipt(invoice_id: int, amount_cents: int) -> None:
    """Write the receipt for an invoice that was paid."""
    await insert_receipt(invoice_id, amount_cents)
