"""The documents quote what runs, and link to what exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from lockstep.cli._main import cli
from typer.testing import CliRunner

ROOT = Path(__file__).parents[3]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "examples/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def test_readme_quotes_the_orders_example_to_the_letter() -> None:
    section = (ROOT / "README.md").read_text().split("## An example: orders")[1].split("\n## ")[0]
    sources = "".join(
        path.read_text() for path in (ROOT / "examples" / "orders").iterdir() if path.is_file()
    )
    blocks = BLOCK.findall(section)
    assert {language for language, _ in blocks} == {"sql", "python"}
    for _, block in blocks:
        assert block in sources, block


def test_operations_quote_the_help_of_the_worker() -> None:
    printed = CliRunner().invoke(cli, ["worker", "--help"], env={"COLUMNS": "80"}).stdout
    plain = re.sub(r"\x1b\[[0-9;]*m", "", printed)
    text = (ROOT / "docs" / "operations.md").read_text()
    shown = text.split("$ lockstep worker --help\n")[1].split("```")[0]
    assert [line.rstrip() for line in plain.rstrip().split("\n")] == shown.rstrip().split("\n")


def test_reliability_names_tests_that_exist() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text()
    places = {
        "pytest": "tests/python/{}",
        "pgtap": "tests/pgtap/{}.sql",
        "race": "tests/isolation/specs/{}.spec",
    }
    named = [
        places[kind].format(name)
        for kind, name in re.findall(r"`(pytest|pgtap|race) ([a-z0-9_/.*]+)`", text)
    ]
    assert len(named) > 40
    assert [pattern for pattern in named if not any(ROOT.glob(pattern))] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())
    missing = [link for link in links if not (document.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_into_documents_name_a_heading(document: Path) -> None:
    missing = []
    for name, anchor in re.findall(r"\]\(([^)#:]*)#([^)]*)\)", document.read_text()):
        target = document.parent / name if name else document
        if target.exists() and anchor not in anchors_in(target.read_text()):
            missing.append(f"{name}#{anchor}")
    assert missing == []


def anchors_in(text: str) -> set[str]:
    """Return the anchors that GitHub makes of a document's headings."""
    headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
