"""The documents quote what runs, and link to what exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
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


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())
    missing = [link for link in links if not (document.parent / link).exists()]
    assert missing == []
