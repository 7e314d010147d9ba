"""Load the invoices of two months and book payments. Run it with: python month_end.py"""

from __future__ import annotations

import os
from datetime import date

import lockstep
import psycopg

INVOICES = 1000


def load(conn: psycopg.Connection) -> None:
    """Write a thousand invoices with one COPY: each starts a workflow."""
    with conn.cursor().copy("COPY invoices (month, customer, amount_cents) FROM STDIN") as copy:
        for number in range(INVOICES):
            month = date(2026, 5 + number % 2, 1)
            copy.write_row((month, f"customer {number % 40}", 500 + number))


def book_payments(conn: psycopg.Connection) -> int:
    """Book what the bank reports with one UPDATE: each row that becomes paid starts another."""
    return conn.execute(
        "UPDATE invoices SET state = 'paid' WHERE customer IN ('customer 1', 'customer 2')"
    ).rowcount


def main() -> None:
    with psycopg.connect(os.environ["DATABASE_URL"]) as conn, lockstep.Client() as client:
        load(conn)
        conn.commit()
        print(f"loaded {INVOICES} invoices")

        first = conn.execute("SELECT min(id) FROM invoices").fetchone()[0]
        for number in range(first, first + INVOICES):
            client.result(f"invoice-{number}")
        sent = conn.execute("SELECT count(*) FROM invoices WHERE state = 'sent'").fetchone()[0]
        print(f"sent {sent} invoices")

        paid = book_payments(conn)
        conn.commit()
        print(f"booked {paid} payments")

        for (invoice_id,) in conn.execute("SELECT id FROM invoices WHERE state = 'paid'"):
            client.result(f"receipt-{invoice_id}")
        receipts = conn.execute("SELECT count(DISTINCT invoice_id) FROM receipts").fetchone()[0]
        print(f"wrote {receipts} receipts")


if __name__ == "__main__":
    main()
