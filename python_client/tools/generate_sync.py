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
BANNER = "# Generated from _async_client.py by tools/generate_sync.py. Do not edit.\n"
REPLACEMENTS = {
    "AsyncClient": "Client",
    "AsyncConnection": "Connection",
    "AsyncWatcher": "Watcher",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
}
PHRASES = {
    "asyncio.Lock": "threading.Lock",
    "asyncio.sleep": "time.sleep",
    "import asyncio\nimport copy\nimport time\n": "import copy\nimport threading\nimport time\n",
    "from ._watcher import": "from ._watcher_thread import",
    ">>> async with": ">>> with",
    ">>> async for": ">>> for",
    "= await client": "= client",
    "await client.": "client.",
    "await conn.": "conn.",
}


def generate() -> str:
    with tempfile.TemporaryDirectory() as folder:
        rule = unasync.Rule(str(PACKAGE), folder, additional_replacements=REPLACEMENTS)
        unasync.unasync_files([str(PACKAGE / "_async_client.py")], [rule])
        text = (Path(folder) / "_async_client.py").read_text()
    text = text.replace("AsyncClient", "Client").replace("AsyncConnection", "Connection")
    for old, new in PHRASES.items():
        text = text.replace(old, new)
    text = BANNER + text
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
    target = PACKAGE / "_client.py"
    text = generate()
    if "--check" in sys.argv:
        if target.read_text() != text:
            print("_client.py is not what generate_sync.py writes: run it", file=sys.stderr)
            return 1
        return 0
    target.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
