"""The shops of examples/ run as written, and book each payment once, whatever goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from harness import APPS, Database
from servers import Cluster, die_with_parent
from waiting import eventually

EXAMPLES = Path(__file__).parents[3] / "examples"


@dataclass(frozen=True, slots=True)
class Shop:
    """An example: how to run it, and what it calls its tables."""

    folder: Path
    set_up: tuple[tuple[str, ...], ...]
    worker: tuple[str, ...]
    place_orders: tuple[str, ...]
    orders: str
    payments: str


SHOPS = [
    pytest.param(
        Shop(
            folder=EXAMPLES / "sqlalchemy_shop",
            set_up=(),
            worker=("lockstep.cli", "worker", "shop:app"),
            place_orders=("place_orders.py",),
            orders="orders",
            payments="payments",
        ),
        id="sqlalchemy",
    ),
    pytest.param(
        Shop(
            folder=EXAMPLES / "django_shop",
            set_up=(("manage.py", "migrate"),),
            worker=("manage.py", "run_worker"),
            place_orders=("manage.py", "place_orders"),
            orders="shop_order",
            payments="shop_payment",
        ),
        id="django",
    ),
]


class Stage:
    """Runs the programs of a shop against a database."""

    def __init__(self, shop: Shop, url: str, folder: Path) -> None:
        self._shop = shop
        self._folder = folder
        self._environment = {**os.environ, "DATABASE_URL": url, "PYTHONDONTWRITEBYTECODE": "1"}

    @contextmanager
    def start(self, *command: str | Path) -> Iterator[subprocess.Popen[str]]:
        with (self._folder / "log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=self._shop.folder,
                env=self._environment,
                stdout=subprocess.PIPE if "place_orders" in str(command) else log,
                stderr=log,
                text=True,
                preexec_fn=die_with_parent,
            )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def set_up(self) -> None:
        for command in self._shop.set_up:
            with self.start(*command) as process:
                assert process.wait(60) == 0, self.log

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text()


@pytest.mark.parametrize("shop", SHOPS)
@pytest.mark.parametrize("deed", ["fail", "kill", "lose", "twice"])
def test_payments_are_booked_once(
    shop: Shop, deed: str, cluster: Cluster, database: Database, tmp_path: Path
) -> None:
    name = database.value("SELECT current_database()")
    url = f"postgresql://postgres@/{name}?host={quote(str(cluster.folder))}&port=5432"
    stage = Stage(shop, url, tmp_path)
    stage.set_up()
    token = tmp_path / "token"
    token.touch()

    with ExitStack() as programs:
        worker = programs.enter_context(
            stage.start(APPS / "saboteur.py", deed, token, *shop.worker)
        )
        placing = programs.enter_context(stage.start(*shop.place_orders))
        try:
            eventually(lambda: not token.exists(), f"the deed, {deed}")
        except AssertionError as error:
            raise AssertionError(f"{error}: {stage.log}") from None
        if deed == "kill":
            assert worker.wait(10) < 0
            assert database.rows(f"SELECT * FROM {shop.payments}") == []
            programs.enter_context(stage.start(APPS / "saboteur.py", "none", token, *shop.worker))
        printed, _ = placing.communicate(timeout=60)
        assert placing.returncode == 0, stage.log

    payments = database.rows(f"SELECT order_id, id FROM {shop.payments} ORDER BY order_id")
    assert [order_id for order_id, _ in payments] == [1, 2, 3]
    assert printed.splitlines() == [
        f"order {order_id} is paid, payment {payment_id}" for order_id, payment_id in payments
    ]
    assert database.rows(f"SELECT DISTINCT state FROM {shop.orders}") == [("paid",)]
    assert database.value(
        f"SELECT bool_and(o.xmin = p.xmin) FROM {shop.payments} AS p"
        " JOIN lockstep.operation_outputs AS o ON o.workflow_id = 'order-' || p.order_id"
        " WHERE o.step_name = 'book_payment'"
    ), "a payment and its checkpoint are of one transaction"
    attempts = database.value(
        "SELECT sum(attempts) FROM lockstep.operation_outputs WHERE step_name = 'book_payment'"
    )
    assert attempts == (4 if deed == "fail" else 3)
