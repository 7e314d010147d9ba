from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from servers import Clock, Cluster


@pytest.fixture(scope="module")
def clock() -> Iterator[Clock]:
    """A clock for some of the processes of a test; the others go by the machine's."""
    clock = Clock()
    yield clock
    clock.remove()


@pytest.fixture
def primary() -> Iterator[Cluster]:
    """A server that the test may kill, reached by TCP, with Lockstep and a ledger."""
    cluster = Cluster(tcp=True)
    try:
        cluster.start()
        with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
            connection.execute("CREATE EXTENSION lockstep")
            connection.execute("CREATE TABLE ledger (account text NOT NULL, amount int NOT NULL)")
        yield cluster
    finally:
        cluster.stop()
