"""Write, send and pay some invoices, and show what came of it. Run it with: python bill.py"""

from __future__ import annotations

import os

import lockstep
import psycopg

WRITE = "INSERT INTO invoices (customer, amount_cents) VALUES (%s, %s) RETURNING number"
FIRE = "SELECT lockstep.fire_event(i, %s) FROM invoices AS i WHERE number = %s"
STARTED = """
SELECT workflow_id FROM lockstep.state_history
WHERE table_name = 'public.invoices' AND workflow_id IS NOT NULL ORDER BY transition_id
"""


def main() -> None:
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as conn:
        ada, bob, eve = (
            conn.execute(WRITE, (customer, 12_000)).fetchone()[0]
            for customer in ("Ada", "Bob", "Eve")
        )
        conn.execute("UPDATE invoices SET state = 'sent' WHERE number IN (%s, %s)", (ada, bob))
        conn.execute(FIRE, ("pay", ada))
        try:
            conn.execute(FIRE, ("pay", eve))
        except psycopg.errors.CheckViolation as error:
            print(error.diag.message_primary)

        workflow_ids = [workflow_id for (workflow_id,) in conn.execute(STARTED)]
        with lockstep.Client() as client:
            for workflow_id in workflow_ids:
                print(client.result(workflow_id))
        for row in conn.execute("SELECT number, customer, state FROM invoices ORDER BY number"):
            print(*row)


if __name__ == "__main__":
    main()
