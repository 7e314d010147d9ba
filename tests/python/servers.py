"""Postgres servers and PgBouncer for the tests: child processes, gone with the tests."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
from waiting import eventually


def die_with_parent() -> None:
    """Let the kernel end this child process if the tests are killed (Linux)."""
    if sys.platform == "linux":
        parent_death_signal = 1
        ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGQUIT)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert isinstance(port, int)
    return port


def server_user() -> dict[str, Any]:
    """Return the options of subprocess by which a server does not run as root."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam("postgres")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def give_to_server(path: Path) -> None:
    """Make the server's user the owner of a file or folder."""
    if user := server_user():
        os.chown(path, user["user"], user["group"])


class Cluster:
    """
    A Postgres server of its own, a child of this process.

    It is reached by a socket in its folder, with ``tcp`` on a free port of loopback too.
    Without ``initialize`` the caller fills ``data``, from a base backup for example.
    """

    def __init__(
        self,
        bindir: Path | None = None,
        settings: Sequence[str] = (),
        *,
        tcp: bool = False,
        initialize: bool = True,
    ) -> None:
        if bindir is None:
            pg_config = os.environ.get("PG_CONFIG", "pg_config")
            output = subprocess.run([pg_config, "--bindir"], check=True, capture_output=True)
            bindir = Path(output.stdout.decode().strip())
        self.bindir = bindir
        self.settings = list(settings)
        self.folder = Path(tempfile.mkdtemp(prefix="lockstep-test-"))
        self.folder.chmod(0o755)
        self.data = self.folder / "data"
        self.port = free_port() if tcp else 5432
        self._addresses = "127.0.0.1" if tcp else ""
        give_to_server(self.folder)
        self._process: subprocess.Popen[bytes] | None = None
        if initialize:
            self.initialize()

    def initialize(self, *options: str) -> None:
        """Create the cluster in ``data``."""
        self.run(
            *("initdb", "-D", self.data, "-U", "postgres"),
            *("-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", *options),
        )

    def run(self, program: str, *arguments: str | Path, **options: Any) -> str:
        """Run a program of this server's installation, as the server's user; return its output."""
        done = subprocess.run(
            [self.bindir / program, *arguments],
            **{"capture_output": True, "text": True, "cwd": self.folder, **options},
            **server_user(),
        )
        assert done.returncode == 0, f"{program} failed: {done.stdout}{done.stderr}"
        return str(done.stdout)

    def dsn(self, database: str = "postgres") -> str:
        return f"host={self.folder} port={self.port} user=postgres dbname={database}"

    def tcp_dsn(self, database: str = "postgres") -> str:
        return f"host=127.0.0.1 port={self.port} user=postgres dbname={database}"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self.spawn()
        self.wait_until_ready()

    def spawn(self) -> None:
        """Start the server; the thread that does must live as long as the server."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(self.bindir / "postgres", "-D", self.data, "-k", self.folder),
                    *("-p", str(self.port), "-c", f"listen_addresses={self._addresses}"),
                    *("-c", "fsync=off", "-c", "max_connections=200"),
                    *(option for setting in self.settings for option in ("-c", setting)),
                ],
                stdout=log,
                stderr=log,
                cwd="/",
                preexec_fn=die_with_parent,
                **server_user(),
            )

    @property
    def is_running(self) -> bool:
        """Whether the server's first process lives, answering or not."""
        return self._process is not None and self._process.poll() is None

    def wait_until_ready(self) -> None:
        """Wait until the server answers."""

        def answers() -> bool:
            assert self.is_running, f"the server ended: {self.log[-2000:]}"
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self.dsn()).close()
                return True
            return False

        eventually(answers, "the start of the server", 60)

    def kill(self) -> None:
        """Kill the server as a crash of its process would: no shutdown, no checkpoint."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)  # nothing may be born after the look
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self._process.pid)], capture_output=True, text=True
        ).stdout.split()
        self._process.kill()
        self._process.wait()
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        self._process = None

    def shut_down(self, how: signal.Signals = signal.SIGINT) -> None:
        """Shut the server down, by SIGINT fast, by SIGQUIT at once; its data stays."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Shut the server down and remove it."""
        self.shut_down()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def pgbouncer(cluster: Cluster, database: str) -> Iterator[str]:
    """Run a PgBouncer in transaction mode in front of a database; yield its DSN."""
    folder = Path(tempfile.mkdtemp(prefix="lockstep-bouncer-"))
    folder.chmod(0o755)
    port = free_port()
    config = folder / "pgbouncer.ini"
    config.write_text(
        f"[databases]\n{database} = host={cluster.folder} port={cluster.port} user=postgres\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = any\npool_mode = transaction\ndefault_pool_size = 4\n"
        f"logfile = {folder}/log\n"
    )
    for path in (folder, config):
        give_to_server(path)
    process = subprocess.Popen(
        [shutil.which("pgbouncer") or "/usr/sbin/pgbouncer", "-q", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent,
        **server_user(),
    )
    dsn = f"host=127.0.0.1 port={port} user=postgres dbname={database}"

    def answers() -> bool:
        try:
            psycopg.connect(dsn, prepare_threshold=None).close()
        except psycopg.OperationalError:
            return False
        return True

    try:
        eventually(answers, "the start of PgBouncer")
        yield dsn
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)
