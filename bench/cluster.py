"""The Postgres server under test: connections, databases, pgbench and the yardstick."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

YARDSTICK_DATABASE = "yardstick"
YARDSTICK_INSERT = "INSERT INTO yardstick VALUES (gen_random_uuid()::text, repeat('x', 200))"
"""What a single-row write costs on this server: a text key and 200 bytes."""

Connection = psycopg.Connection[Any]


@dataclass(frozen=True)
class PgbenchResult:
    """What pgbench reports: transactions per second, their mean latency in ms, their count."""

    per_second: float
    latency_ms: float
    transactions: int


def dsn(database: str) -> str:
    """Return a connection string; host, port and user come from the PG* variables."""
    return f"dbname={database}"


def url(database: str) -> str:
    """Return a connection URL for libraries that read no PG* variables."""
    host, port, user = (os.environ[name] for name in ("PGHOST", "PGPORT", "PGUSER"))
    return f"postgresql://{user}@/{database}?host={host}&port={port}"


def connect(database: str = "postgres", **options: Any) -> Connection:
    """Connect in autocommit mode."""
    return psycopg.connect(dsn(database), autocommit=True, **options)


def run_sql(database: str, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Run one statement, or a script without parameters, on a connection of its own."""
    with connect(database) as connection:
        cursor = connection.execute(statement, parameters or None)
        return cursor.fetchall() if cursor.description else []


def create_database(name: str) -> None:
    """Create an empty database, in place of one of that name."""
    with connect() as connection:
        connection.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def checkpoint() -> None:
    """
    Write everything out, so that no measurement pays for what came before.

    Tables that are filled afterwards have no page older than the checkpoint, hence no
    full-page images in the WAL that is counted.
    """
    run_sql("postgres", "CHECKPOINT")


@cache
def _pgbench_path() -> str:
    pg_config = os.environ.get("PG_CONFIG", "pg_config")
    bindir = subprocess.run(
        [pg_config, "--bindir"], capture_output=True, text=True, check=True
    ).stdout.strip()
    return str(Path(bindir) / "pgbench")


def pgbench(
    database: str,
    script: str,
    clients: int,
    *,
    seconds: int = 1,
    transactions: int | None = None,
) -> PgbenchResult:
    """Run a script with prepared statements for ``seconds``, or a number of times per client."""
    how_long = f"--time={seconds}" if transactions is None else f"--transactions={transactions}"
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script + ";\n")
        file.flush()
        command = [
            *(_pgbench_path(), "--no-vacuum", "--protocol=prepared", f"--client={clients}"),
            *(f"--jobs={min(clients, os.cpu_count() or 1)}", how_long),
            *(f"--file={file.name}", database),
        ]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    output = result.stdout + result.stderr
    tps = re.search(r"tps = ([\d.]+)", output)
    latency = re.search(r"latency average = ([\d.]+)", output)
    count = re.search(r"transactions actually processed: (\d+)", output)
    if result.returncode or not (tps and latency and count):
        raise RuntimeError(f"pgbench failed: {output.strip()}")
    return PgbenchResult(float(tps[1]), float(latency[1]), int(count[1]))


def install_yardstick() -> None:
    """Create the table of the yardstick, in a database of its own."""
    create_database(YARDSTICK_DATABASE)
    run_sql(
        YARDSTICK_DATABASE,
        "CREATE TABLE yardstick (id text PRIMARY KEY, filler text NOT NULL)",
    )


def yardstick(clients: int, seconds: int, transactions: int | None = None) -> PgbenchResult:
    """
    Measure what this server does at best right now: single-row inserts, each a commit.

    Rates are divided by it, so that results of different machines and minutes compare.
    """
    run_sql(YARDSTICK_DATABASE, "TRUNCATE yardstick")
    return pgbench(
        YARDSTICK_DATABASE, YARDSTICK_INSERT, clients, seconds=seconds, transactions=transactions
    )
