"""
Every example of the guide runs and gives the output that it shows.

A section (##) of a page in docs/guide is a test. Its Python blocks are a file, shop.py,
that a worker runs while the sessions that follow are played: Python blocks that begin
with ``>>>``, and console blocks that begin with ``shop=>``, which psql plays. A Python
block after a session is a new release of the file: the worker starts again with it.

A mermaid block is the diagram of a state machine that the section has defined.

Output is compared to the letter, but for ``...``, spaces at the ends of lines and, in Python,
line breaks. A query in psql may be early, as a reader may be: it is asked again until the
answer is as shown.

A section that links to a folder of examples/ quotes it, and test_examples.py runs that.
"""

from __future__ import annotations

import asyncio
import contextlib
import doctest
import re
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lockstep
import pytest
from harness import Database
from servers import Cluster
from sybil import Document, Example
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser
from waiting import eventually

ROOT = Path(__file__).parents[3]
PAGES = sorted((ROOT / "docs" / "guide").glob("*.md"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
EXAMPLE_FOLDER = re.compile(r"\]\((?:\.\./)+(examples/\w+)/")
AS_SHOWN = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
PATIENCE = 10.0


def sections_of(page: Path) -> dict[str, str]:
    """Return the sections of a page by their headings, each line where it is in the page."""
    text = page.read_text()
    sections = {}
    for heading in re.finditer(r"^## (.*)$", text, re.MULTILINE):
        section = text[heading.end() :].partition("\n## ")[0]
        sections[heading[1]] = "\n" * text.count("\n", 0, heading.end()) + section
    return sections


SECTIONS = [
    pytest.param(page, section, id=f"{page.stem}: {heading}")
    for page in PAGES
    for heading, section in sections_of(page).items()
    if "```" in section
]
QUOTING = [each for each in SECTIONS if EXAMPLE_FOLDER.search(str(each.values[1]))]
PLAYED = [each for each in SECTIONS if each not in QUOTING]


class Psql:
    """Plays psql sessions."""

    def __init__(self, cluster: Cluster, database: Database) -> None:
        self._command = [
            cluster.bindir / "psql",
            "-X",
            "-d",
            cluster.dsn(database.name),
            "-P",
            "pager=off",
        ]
        self._checker = doctest.OutputChecker()

    def __call__(self, example: Example) -> None:
        first, *turns = re.split(r"^shop=> ", example.parsed, flags=re.MULTILINE)
        assert turns, f"no psql session: {example.parsed}"
        assert not first.strip(), f"begins before a prompt: {first}"
        for turn in turns:
            lines = turn.splitlines(keepends=True)
            end = next(n for n in range(1, len(lines) + 1) if self._is_whole(lines[:n]))
            statement = "".join(line.removeprefix("shop-> ") for line in lines[:end])
            self._play(statement, "".join(lines[end:]).rstrip())

    @staticmethod
    def _is_whole(lines: list[str]) -> bool:
        text = "".join(lines).rstrip()
        return text.startswith("\\") or (text.endswith(";") and text.count("$$") % 2 == 0)

    def _play(self, statement: str, wanted: str) -> None:
        is_query = re.match(r"(?s)SELECT (?!lockstep\.).*\bFROM\b", statement) is not None
        give_up_at = time.monotonic() + (PATIENCE if is_query else 0)
        while not self._checker.check_output(
            wanted + "\n", got := self._ask(statement), doctest.ELLIPSIS
        ):
            if time.monotonic() > give_up_at:
                shown = doctest.Example(statement, wanted + "\n")
                difference = self._checker.output_difference(shown, got, doctest.REPORT_NDIFF)
                pytest.fail(f"shop=> {statement}{difference}")
            time.sleep(0.1)

    def _ask(self, statement: str) -> str:
        done = subprocess.run(
            [*self._command, "-c", statement],
            check=False,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        return "\n".join(line.rstrip() for line in done.stdout.rstrip().split("\n")) + "\n"


def check_diagram(example: Example, database: Database) -> None:
    """Check that a diagram of the page is one that the database draws."""
    drawn = database.rows(
        "SELECT lockstep.state_machine_diagram(machine_name, version) FROM lockstep.state_machine"
    )
    assert (example.parsed.rstrip(),) in drawn


@contextlib.contextmanager
def working(names: dict[str, Any]) -> Iterator[None]:
    """Run the worker of a file, if there is one: its own ``worker``, or one with the defaults."""
    if "app" not in names:
        yield
        return
    worker = names.get("worker") or lockstep.Worker(names["app"])
    thread = threading.Thread(target=lambda: asyncio.run(worker.run()))
    thread.start()
    eventually(lambda: worker.executor_id, "the start of the worker")
    try:
        yield
    finally:
        for _ in range(2):  # at once
            worker.loop.call_soon_threadsafe(worker.stop)
        thread.join()


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch, database: Database) -> types.ModuleType:
    """The module that a section's Python blocks make."""
    module = types.ModuleType("shop")
    monkeypatch.setitem(sys.modules, "shop", module)
    monkeypatch.setenv("LOCKSTEP_DATABASE_URL", database.dsn)
    return module


@pytest.mark.parametrize(("page", "section"), PLAYED)
def test_examples_give_the_output_that_they_show(
    page: Path, section: str, shop: types.ModuleType, cluster: Cluster, database: Database
) -> None:
    document = Document(section, str(page))
    document.namespace = vars(shop)
    parsers = [
        PythonCodeBlockParser(doctest_optionflags=AS_SHOWN),
        CodeBlockParser("console", Psql(cluster, database)),
        CodeBlockParser("mermaid", lambda example: check_diagram(example, database)),
    ]
    for parser in parsers:
        for region in parser(document):
            document.add(region)

    with lockstep.Client() as client, contextlib.ExitStack() as worker:
        shop.client = client
        is_working = False
        for example in document.examples():
            is_session = not isinstance(example.parsed, str) or "shop=> " in example.parsed
            is_session = is_session or example.parsed.startswith("stateDiagram")
            if is_session and not is_working:
                worker.enter_context(working(vars(shop)))
            elif is_working and not is_session:
                worker.close()
            is_working = is_session
            example.evaluate()


@pytest.mark.parametrize(("page", "section"), QUOTING)
def test_quotes_are_to_the_letter(page: Path, section: str) -> None:
    folders = {ROOT / name for name in EXAMPLE_FOLDER.findall(section)}
    sources = "".join(path.read_text() for folder in folders for path in folder.rglob("*.py"))
    for _, block in FENCE.findall(section):
        assert block in sources, block


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_is_run_or_quoted(page: Path) -> None:
    for heading, section in sections_of(page).items():
        blocks = FENCE.findall(section)
        assert {language for language, _ in blocks} <= {"python", "console", "mermaid"}, heading
        if blocks and not EXAMPLE_FOLDER.search(section):
            sessions = [block for _, block in blocks if block.startswith((">>> ", "shop=> "))]
            assert sessions, f'"{heading}" shows no output'
    assert "```" not in page.read_text().partition("\n## ")[0], "blocks belong into sections"
