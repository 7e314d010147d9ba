"""What a run costs: CPU of the server and of workers, WAL, transactions."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

from .cluster import run_sql

_STATS_LAG = 0.1
_STATS_LAG_BEFORE_15 = 0.6
"""Seconds until a finished backend's numbers have arrived in the statistics views."""


@cache
def _postmaster() -> psutil.Process:
    ((directory,),) = run_sql("postgres", "SHOW data_directory")
    return psutil.Process(int((Path(directory) / "postmaster.pid").read_text().split()[0]))


@cache
def _stats_lag() -> float:
    ((version,),) = run_sql("postgres", "SELECT current_setting('server_version_num')::int")
    return _STATS_LAG if version >= 150000 else _STATS_LAG_BEFORE_15


def cpu_of(process: psutil.Process) -> float:
    """Return the CPU seconds, user and system, that a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


def postgres_cpu() -> float:
    """
    Return the CPU seconds that all processes of the server have used, also ended ones.

    The scan is repeated if a backend ended during it, which would be counted twice or not.
    """
    postmaster = _postmaster()
    for _ in range(100):
        before = _ended(postmaster)
        total = cpu_of(postmaster) + before
        try:
            total += sum(cpu_of(child) for child in postmaster.children())
        except psutil.NoSuchProcess:
            continue
        if _ended(postmaster) == before:
            return total
    return total


def _ended(postmaster: psutil.Process) -> float:
    times = postmaster.cpu_times()
    return float(getattr(times, "children_user", 0) + getattr(times, "children_system", 0))


@dataclass(frozen=True)
class Counters:
    """The server's counters at one moment, or the difference of two moments."""

    seconds: float
    postgres_cpu_seconds: float
    wal_bytes: float
    wal_full_page_images: float
    transactions: float

    @classmethod
    def now(cls, database: str) -> Counters:
        """Read them; transactions are those committed or rolled back in one database."""
        time.sleep(_stats_lag())
        ((wal, images),) = run_sql(
            "postgres",
            "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn, wal_fpi FROM pg_stat_wal",
        )
        ((transactions,),) = run_sql(
            "postgres",
            "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = %s",
            database,
        )
        return cls(time.monotonic(), postgres_cpu(), float(wal), float(images), transactions)

    def since(self, earlier: Counters) -> Counters:
        """Return what was added since an earlier moment."""
        return Counters(
            self.seconds - earlier.seconds,
            self.postgres_cpu_seconds - earlier.postgres_cpu_seconds,
            self.wal_bytes - earlier.wal_bytes,
            self.wal_full_page_images - earlier.wal_full_page_images,
            self.transactions - earlier.transactions,
        )
