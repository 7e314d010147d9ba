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


class Clock:
    """A clock of its own for processes of the tests, which can be set while they run (Linux)."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="lockstep-clock-"))
        self._folder.chmod(0o755)
        self._file = self._folder / "clock"
        libraries = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
        # the monotonic clock stays: nobody sets that of a machine either
        self.environment = {
            "LD_PRELOAD": str(next(libraries)),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.set_ahead(0)

    def set_ahead(self, seconds: int) -> None:
        """Set it so many seconds ahead of the machine's clock, or behind it."""
        written = self._file.with_suffix(".new")
        written.write_text(f"{seconds:+d}s\n")
        written.chmod(0o644)
        written.rename(self._file)

    def remove(self) -> None:
        """Remove it, when the processes that live by it are gone."""
        shutil.rmtree(self._folder)


class Cluster:
    """
    A Postgres server of its own, a child of this process.

    It is reached by a socket in its folder, with ``tcp`` on a free port of loopback too.
    Without ``initialize`` the caller fills ``data``, from a base backup for example. With a
    ``clock`` it lives by that one.
    """

    def __init__(
        self,
        bindir: Path | None = None,
        settings: Sequence[str] = (),
        *,
        tcp: bool = False,
        initialize: bool = True,
        clock: Clock | None = None,
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
        self._clock = clock
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
                env={**os.environ, **({} if self._clock is None else self._clock.environment)},
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

    def standby(self) -> Cluster:
        """Make a hot standby that streams from this server, which runs; it is not started yet."""
        other = Cluster(self.bindir, self.settings, tcp=True, initialize=False)
        other.follow(self)
        return other

    def follow(self, primary: Cluster) -> None:
        """Become a standby of another server, with a copy of its data in place of the own."""
        shutil.rmtree(self.data, ignore_errors=True)
        source = f"host={primary.folder} port={primary.port} user=postgres application_name=standby"
        self.run("pg_basebackup", "-d", source, "-D", self.data, "-R", "-c", "fast", "-N")

    def wait_for_standby(self, state: str) -> None:
        """Wait until a standby streams, as one that commits wait for ("sync") or not ("async")."""

        def streams() -> bool:
            with psycopg.connect(self.dsn()) as connection:
                states = connection.execute("SELECT sync_state FROM pg_stat_replication").fetchall()
            return states == [(state,)]

        eventually(streams, f"a standby that is {state}", 60)

    def promote(self) -> None:
        """Make a standby the primary, and wait until it takes writes."""
        self.run("psql", "-XAtqc", "SELECT pg_promote()", self.dsn())

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


class PgBouncer:
    """A PgBouncer in transaction mode in front of all databases of a server."""

    def __init__(self, cluster: Cluster, settings: Sequence[str] = ()) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lockstep-bouncer-"))
        self.folder.chmod(0o755)
        self.port = free_port()
        self._config = self.folder / "pgbouncer.ini"
        users = self.folder / "users"
        users.write_text('"postgres" ""\n')
        self._config.write_text(
            # whoever is a role of the server logs in as that role
            f"[databases]\n* = host={cluster.folder} port={cluster.port} auth_user=postgres\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {users}\nadmin_users = postgres\n"
            "pool_mode = transaction\n"
            "default_pool_size = 4\nmax_client_conn = 500\n"
            f"logfile = {self.folder}/log\n" + "".join(f"{setting}\n" for setting in settings)
        )
        for path in (self.folder, self._config, users):
            give_to_server(path)
        self._process: subprocess.Popen[bytes] | None = None

    def dsn(self, database: str = "postgres") -> str:
        return f"host=127.0.0.1 port={self.port} user=postgres dbname={database}"

    def start(self) -> None:
        """Start it and wait until it answers, whether or not the server behind it does."""
        self._process = subprocess.Popen(
            [shutil.which("pgbouncer") or "/usr/sbin/pgbouncer", "-q", str(self._config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
            **server_user(),
        )

        def answers() -> bool:
            with contextlib.suppress(psycopg.OperationalError):
                self.administer("SHOW VERSION")
                return True
            return False

        eventually(answers, "the start of PgBouncer")

    def administer(self, command: str) -> None:
        """Run a command of its console, such as PAUSE."""
        with psycopg.ClientCursor(
            psycopg.connect(self.dsn("pgbouncer"), autocommit=True, prepare_threshold=None)
        ) as cursor:
            cursor.execute(command)
            cursor.connection.close()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it, by SIGKILL as a crash would; it can be started again."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None

    def remove(self) -> None:
        """End it and remove its folder."""
        self.stop()
        shutil.rmtree(self.folder)


@contextlib.contextmanager
def pgbouncer(cluster: Cluster, *settings: str) -> Iterator[PgBouncer]:
    """Run a PgBouncer in transaction mode in front of a server."""
    bouncer = PgBouncer(cluster, settings)
    try:
        bouncer.start()
        yield bouncer
    finally:
        bouncer.remove()
