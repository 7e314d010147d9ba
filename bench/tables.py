"""The results as tables, for the terminal and for the documentation."""

from __future__ import annotations

from collections.abc import Sequence

from .figures import PEERS, RATES, Figure, Results, figures, median, variants
from .peers.base import Peer

Table = list[list[str]]
"""Rows of cells, the first one with the headings."""


def number(value: float) -> str:
    """Return a number with as many digits as mean something."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _cell(value: float | None, unit: str, missing: str) -> str:
    if value is None:
        return missing
    space = " " if unit in ("ms", "MB", "B", "µs", "%") else ""
    return f"{number(value)}{space}{unit}"


def _goal(figure: Figure) -> str:
    if figure.goal is None:
        return ""
    sign = "≤" if figure.is_less_better else "≥"
    digits = f"{figure.goal:,.10g}"
    space = " " if figure.unit in ("ms", "MB", "B", "µs", "%") else ""
    return f"{sign} {digits}{space}{figure.unit}"


def goals_table(results: Results) -> Table:
    """Return what was measured next to the goals, without what was not run."""
    failed = {failure["workload"] for failure in results["failures"]}
    rows = [["workload", "figure", "measured", "goal", ""]]
    for figure in figures(results):
        has_failed = any(name.startswith(figure.workload) for name in failed)
        if figure.value is None and not has_failed:
            continue
        measured = _cell(figure.value, figure.unit, "failed")
        rows.append(
            [figure.workload, figure.what, measured, _goal(figure), figure.verdict],
        )
    return rows


def peers_table(results: Results) -> Table:
    """Return the systems side by side; a cell without a number says why."""
    rows = [
        [
            *("system", "no-op/s", "3 steps/s", "3 steps on threads/s", "transactional step/s"),
            *("enqueue/s", "latency p50 / p99", "idle transactions/s", "idle CPU", "idle memory"),
        ]
    ]
    for peer in PEERS:
        rates = [_rate(results, peer, workload) for workload in RATES]
        enqueue = _cell(median(results, "enqueue", peer.name, "per_second", "4 clients"), "", "")
        quiet = variants(results, "idle", peer.name) or variants(results, "latency", peer.name)
        for position, variant in enumerate(quiet or [""]):
            first = position == 0
            name = f"{peer.name}, {variant}" if len(quiet) > 1 else peer.name
            p50, p99 = (
                median(results, "latency", peer.name, f"{p}_ms", variant) for p in ("p50", "p99")
            )
            latency = f"{_cell(p50, '', '')} / {_cell(p99, 'ms', '')}" if p50 and p99 else ""
            rows.append(
                [
                    name,
                    *(rates if first else [""] * len(rates)),
                    enqueue if first else "",
                    latency,
                    _idle(results, peer, variant, "transactions_per_second", ""),
                    _idle(results, peer, variant, "worker_cpu_percent", "%"),
                    _idle(results, peer, variant, "megabytes", "MB"),
                ]
            )
    return rows


def _idle(results: Results, peer: type[Peer], variant: str, key: str, unit: str) -> str:
    return _cell(median(results, "idle", peer.name, key, variant), unit, "")


def _rate(results: Results, peer: type[Peer], workload: str) -> str:
    rate = median(results, workload, peer.name, "per_second")
    ratio = median(results, workload, peer.name, "ratio")
    if rate is None or ratio is None:
        return peer.lacks.get(workload, "not measured")
    return f"{number(rate)} ({number(ratio)})"


def as_text(table: Table) -> str:
    """Return a table with aligned columns."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in table]
    return "\n".join(line.rstrip() for line in [lines[0], "-" * len(lines[0]), *lines[1:]])


def as_markdown(table: Table) -> str:
    """Return a table as documentation shows it."""

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    return "\n".join([line(table[0]), line(["---"] * len(table[0])), *map(line, table[1:])])


def print_tables(results: Results) -> None:
    """Print everything that there is to say about a run."""
    print(as_text(goals_table(results)))
    print(f"\n{as_text(peers_table(results))}")
    print("In parentheses: per insert of the yardstick, measured in the same minute.")
    if results["scale"] != "full":
        print("This was a smoke test with small sizes: its figures and verdicts mean nothing.")
    for failure in results["failures"]:
        print(f"FAILED {failure['workload']}, {failure['system']}: {failure['error']}")
