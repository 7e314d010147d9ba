"""Place orders and wait until they are fulfilled. Run it with: python place_orders.py"""

from __future__ import annotations

import lockstep
from models import Base, Order, url
from shop import fulfil_order
from sqlalchemy import create_engine
from sqlalchemy.orm import Session


def place_order(session: Session, client: lockstep.Client, amount_cents: int) -> str:
    """Write an order and enqueue its workflow, both in the session's transaction."""
    order = Order(amount_cents=amount_cents)
    session.add(order)
    session.flush()
    workflow = fulfil_order.options(workflow_id=f"order-{order.id}")
    connection = session.connection().connection.driver_connection
    return client.using(connection).enqueue(workflow, order.id)


def main() -> None:
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    with lockstep.Client() as client:
        with Session(engine) as session, session.begin():
            workflow_ids = [place_order(session, client, cents) for cents in (500, 700, 900)]
        for workflow_id in workflow_ids:
            print(client.result(workflow_id))


if __name__ == "__main__":
    main()
