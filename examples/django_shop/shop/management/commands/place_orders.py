"""Places orders and waits until they are fulfilled."""

from typing import Any

import lockstep
from django.core.management.base import BaseCommand
from django.db import connection, transaction

from shop.models import Order
from shop.workflows import fulfil_order


def place_order(client: lockstep.Client, amount_cents: int) -> str:
    """Write an order and enqueue its workflow, both in the transaction that is open."""
    order = Order.objects.create(amount_cents=amount_cents)
    workflow = fulfil_order.options(workflow_id=f"order-{order.pk}")
    return client.using(connection.connection).enqueue(workflow, order.pk)


class Command(BaseCommand):
    help = __doc__

    def handle(self, *args: Any, **options: Any) -> None:
        with lockstep.Client() as client:
            with transaction.atomic():
                workflow_ids = [place_order(client, cents) for cents in (500, 700, 900)]
            for workflow_id in workflow_ids:
                self.stdout.write(client.result(workflow_id))
