"""
Write the sync client from the async one; with --check, only say whether it is up to date.

The async form is the one to edit. What cannot be told from the words of the file, such as
the kind of lock, is named in REPLACEMENTS.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import unasync

CONFIG = Path(__file__).parent.parent / "pyproject.toml"
PACKAGE = Path(__file__).parent.parent / "src" / "lockstep"
BANNER = "# Generated from {source} by tools/generate_sync.py. Do not edit.\n"
MODULES = {
    "_async_caller.py": "_caller.py",
    "_async_client.py": "_client.py",
    "_async_management.py": "_management.py",
    "_async_bulk.py": "_bulk.py",
    "_async_queues.py": "_queues.py",
    "_async_schedules.py": "_schedules.py",
}
REPLACEMENTS = {
    "AsyncBulk": "Bulk",
    "AsyncCaller": "Caller",
    "AsyncClient": "Client",
    "AsyncConnection": "Connection",
    "AsyncCursor": "Cursor",
    "AsyncManagement": "Management",
    "AsyncQueues": "Queues",
    "AsyncSchedules": "Schedules",
    "AsyncWatcher": "Watcher",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
}
PHRASES = {
    "asyncio.Lock": "threading.Lock",
    "asyncio.sleep": "time.sleep",
    "import asyncio\nimport copy\n": "import copy\n",
    "import asyncio\nfrom collections": "import threading\nimport time\nfrom collections",
    "from ._watcher import": "from ._watcher_thread import",
    ">>> async with": ">>> with",
    ">>> async for": ">>> for",
    "            for info in page:\n                yield info\n": "            yield from page\n",
    "_async_bulk": "_bulk",
    "_async_caller": "_caller",
    "_async_management": "_management",
    "_async_queues": "_queues",
    "_async_schedules": "_schedules",
    "= await client": "= client",
    "await client.": "client.",
    "await conn.": "conn.",
}


def generate(source: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        rule = unasync.Rule(str(PACKAGE), folder, additional_replacements=REPLACEMENTS)
        unasync.unasync_files([str(PACKAGE / source)], [rule])
        text = (Path(folder) / source).read_text()
    text = text.replace("AsyncClient", "Client").replace("AsyncConnection", "Connection")
    for old, new in PHRASES.items():
        text = text.replace(old, new)
    text = BANNER.format(source=source) + text
    for command in (["check", "--quiet", "--select", "I", "--fix"], ["format"]):
        text = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--config", str(CONFIG), "-"],
            input=text,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    return text


def main() -> int:
    texts = {PACKAGE / target: generate(source) for source, target in MODULES.items()}
    if "--check" in sys.argv:
        stale = [target.name for target, text in texts.items() if target.read_text() != text]
        for name in stale:
            print(f"{name} is not what generate_sync.py writes: run it", file=sys.stderr)
        return len(stale)
    for target, text in texts.items():
        target.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
