"""
Write a results file as documentation: ``python -m bench.report [RESULTS]``.

Draws the plots as PNG and SVG, and replaces what stands between the two markers of the
page. Without a file it takes the newest full run of bench/results.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from .figures import Results
from .plots import PLOTS
from .run import RESULTS
from .tables import as_markdown, goals_table, peers_table

BEGIN = "<!-- written by bench/report.py: begin -->"
END = "<!-- written by bench/report.py: end -->"
DOCS = Path(__file__).parent.parent / "docs"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.report")
    parser.add_argument("results", nargs="?", type=Path, help="a file that bench.run wrote")
    parser.add_argument("--page", type=Path, default=DOCS / "performance.md")
    parser.add_argument("--plots", type=Path, default=DOCS / "performance")
    return parser.parse_args()


def _newest() -> Path:
    files = [path for path in RESULTS.glob("*.json") if "quick" not in path.name]
    if not files:
        sys.exit("there are no results of a full run yet: make bench")
    return max(files, key=lambda path: path.stat().st_mtime)


def _draw(results: Results, directory: Path) -> list[str]:
    """Write the plots of everything that was measured and return their names."""
    directory.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, plot in PLOTS.items():
        canvas = plot(results)
        if canvas is not None:
            canvas.savefig(directory / f"{name}.png", dpi=144)
            canvas.savefig(directory / f"{name}.svg", metadata={"Date": None})
            drawn.append(name)
    return drawn


def _conditions(results: Results) -> str:
    machine, versions = results["machine"], results["versions"]
    others = ", ".join(
        f"{name} {version}" for name, version in versions.items() if name not in _NAMED
    )
    settings = ", ".join(f"{name} = {value}" for name, value in results["settings"].items())
    rows = [
        ["", ""],
        ["date", results["date"]],
        ["machine", f"{machine['cores']} cores, {machine['cpu']}, {machine['memory_gb']} GB"],
        ["system", f"{machine['system']} {machine['kernel']}"],
        ["Postgres", versions["postgres"]],
        ["Python", versions["python"]],
        ["Lockstep", versions["pg-lockstep"]],
        ["other packages", others],
        ["settings", settings],
    ]
    note = ""
    if results["scale"] != "full":
        note = (
            "\n\n**This was a smoke test with small sizes: its figures and verdicts mean nothing.**"
        )
    return as_markdown(rows) + note


_NAMED = ("postgres", "python", "pg-lockstep")


def _section(results: Results, plots: list[str], prefix: str) -> str:
    images = "\n\n".join(f"![{name}]({prefix}/{name}.png)" for name in plots)
    failures = "".join(
        f"\n- {failure['workload']}, {failure['system']}: {failure['error']}"
        for failure in results["failures"]
    )
    parts = [
        *("### Conditions", _conditions(results)),
        *("### Figures and goals", as_markdown(goals_table(results))),
        *("### Next to others", as_markdown(peers_table(results))),
        "Rates are per second; in parentheses per insert of the yardstick, measured in the"
        " same minute.",
        *(["### Failed", failures.strip()] if failures else []),
        *("### Plots", images),
    ]
    return "\n\n".join(parts)


def main() -> None:
    """Write the plots and the page."""
    arguments = _arguments()
    path = arguments.results or _newest()
    results = json.loads(path.read_text())
    plots = _draw(results, arguments.plots)
    page: Path = arguments.page
    text = page.read_text() if page.exists() else f"{BEGIN}\n{END}\n"
    if BEGIN not in text or END not in text:
        sys.exit(f"{page} lacks the markers {BEGIN} and {END}")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    prefix = Path(os.path.relpath(arguments.plots, page.parent)).as_posix()
    page.write_text(f"{before}{BEGIN}\n\n{_section(results, plots, prefix)}\n\n{END}{after}")
    print(f"wrote {page} and {len(plots)} plots from {path}")


if __name__ == "__main__":
    main()
