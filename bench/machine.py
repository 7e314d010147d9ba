"""What the benchmark ran on: machine, versions and settings, without names of hosts."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from .cluster import run_sql

_PACKAGES = (
    *("pg-lockstep", "dbos", "absurd-sdk", "procrastinate", "pgqueuer"),
    *("psycopg", "asyncpg", "sqlalchemy", "uvloop"),
)
_SETTINGS = (
    *("fsync", "synchronous_commit", "full_page_writes", "wal_level", "shared_buffers"),
    *("max_wal_size", "checkpoint_timeout", "max_connections", "autovacuum", "jit"),
)


def check_disk(free_bytes: int) -> None:
    """Refuse a data directory in memory, or without the room that the workloads need."""
    ((directory,),) = run_sql("postgres", "SHOW data_directory")
    mounts = [
        mount
        for mount in psutil.disk_partitions(all=True)
        if Path(directory).is_relative_to(mount.mountpoint)
    ]
    mount = max(mounts, key=lambda m: len(m.mountpoint), default=None)
    if mount is not None and mount.fstype in ("tmpfs", "ramfs"):
        sys.exit("the data directory is in memory: set TMPDIR to a directory on a disk")
    free = shutil.disk_usage(directory).free
    if free < free_bytes:
        sys.exit(
            f"the benchmark needs {free_bytes / 1e9:.0f} GB of free disk, there are "
            f"{free / 1e9:.0f}: set TMPDIR to a directory on a larger disk"
        )


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"model name\s*: (.*)", cpuinfo.read_text())
        if found:
            return " ".join(found[1].split())
    return platform.processor() or platform.machine()


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def describe() -> dict[str, Any]:
    """Return the machine, the versions and the settings."""
    ((postgres,),) = run_sql("postgres", "SHOW server_version")
    settings = run_sql(
        "postgres",
        "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY (%s)",
        list(_SETTINGS),
    )
    return {
        "machine": {
            "cores": os.cpu_count(),
            "cpu": _cpu_model(),
            "memory_gb": round(psutil.virtual_memory().total / 2**30),
            "system": platform.system(),
            "kernel": re.split(r"[^\d.]", platform.release())[0],
        },
        "versions": {
            "postgres": postgres.split()[0],
            "python": platform.python_version(),
            **{package: _version_of(package) for package in _PACKAGES},
        },
        "settings": dict(settings),
    }


def file_name(results: dict[str, Any]) -> str:
    """Return a file name that says when and on what kind of machine, and not on which."""
    cpu = re.sub(r"[^a-z0-9]+", "-", results["machine"]["cpu"].lower()).strip("-")
    cores, postgres = results["machine"]["cores"], results["versions"]["postgres"]
    name = f"{results['date']}-{cores}x-{cpu}-pg{postgres}"
    return f"{name}{'-quick' if results['scale'] == 'quick' else ''}.json"
