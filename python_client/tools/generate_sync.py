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
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
}
PHRASES = {
    "asyncio.Lock": "threading.Lock",
    "asyncio.sleep": "time.sleep",
    "import asyncio\nimport time\n": "import threading\nimport time\n",
    ">>> async with": ">>> with",
    "= await client": "= client",
    "await client.": "client.",
}


def generate() -> str:
    with tempfile.TemporaryDirectory() as folder:
        rule = unasync.Rule(str(PACKAGE), folder, additional_replacements=REPLACEMENTS)
        unasync.unasync_files([str(PACKAGE / "_async_client.py")], [rule])
        text = (Path(folder) / "_async_client.py").read_text()
    text = text.replace("AsyncClient", "Client").replace("AsyncConnection", "Connection")
    for old, new in PHRASES.items():
        text = text.replace(old, new)
    return subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--config", str(CONFIG), "-"],
        input=BANNER + text,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


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
