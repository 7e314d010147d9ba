from __future__ import annotations

import pytest
from harness import Database


@pytest.fixture(autouse=True)
def user_tables(database: Database) -> None:
    create_user_tables(database)


def create_user_tables(database: Database) -> None:
    database.rows("CREATE TABLE effects (effect text NOT NULL)")
    database.rows("CREATE TABLE ledger (key text NOT NULL)")
