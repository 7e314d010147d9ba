"""The programs in docs/client.md and docs/testing.md run, and print what the page says."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from harness import Database, WorkerProcess, stopped_at_end
from servers import Cluster

DOCS = Path(__file__).parents[3] / "docs"
BLOCK = re.compile(r"^```python\n# (\S+\.py)(?:, continued)?\n(.*?)^```", re.DOTALL | re.MULTILINE)
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def programs(page: str) -> dict[str, str]:
    """Return the programs of a page by name; what continues a file is added to it."""
    found: dict[str, str] = {}
    for name, text in BLOCK.findall((DOCS / page).read_text()):
        found[name] = found.get(name, "") + text
    return found


CLIENT = programs("client.md")


def output_of(name: str) -> str:
    """Return the output that the section of a program shows."""
    for section in (DOCS / "client.md").read_text().split("\n## "):
        if f"```python\n# {name}\n" in section:
            return next((text for kind, text in FENCED.findall(section) if not kind), "")
    raise AssertionError(f"no section shows {name}")


@pytest.mark.parametrize("name", [name for name in CLIENT if name != "shop.py"])
def test_program_prints_what_the_page_says(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for file, text in CLIENT.items():
        (tmp_path / file).write_text(text)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    worker = WorkerProcess(database, "shop:app", tmp_path, "--queue", "orders")
    with stopped_at_end([worker]):
        worker.wait_until_ready()
        done = subprocess.run(
            [sys.executable, name],
            cwd=tmp_path,
            env={**os.environ, "LOCKSTEP_DATABASE_URL": database.dsn},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == output_of(name)


def test_tests_of_the_page_pass(tmp_path: Path, cluster: Cluster) -> None:
    pages = programs("testing.md")
    assert len(pages) == 3
    for file, text in pages.items():
        (tmp_path / file).write_text(text)
    (tmp_path / "conftest.py").write_text(
        "import types\nimport pytest\n\n\n@pytest.fixture(scope='session')\n"
        f"def lockstep_server():\n    return types.SimpleNamespace(dsn={cluster.dsn()!r})\n"
    )
    is_found = importlib.metadata.entry_points(group="pytest11", name="lockstep")
    plugin = [] if is_found else ["-p", "lockstep._pytest_plugin"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", *plugin, "-o", "asyncio_mode=auto"),
            *("-p", "no:cacheprovider", str(tmp_path)),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
