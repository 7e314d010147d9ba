"""The results as plots: the same colours for the same system, and nothing that says nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import NullFormatter

from .figures import PEERS, Results, median, pick, variants
from .tables import number

COLOURS = {
    "lockstep": "#1f5fa8",
    "bare": "#9aa0a6",
    "dbos": "#d9822b",
    "absurd": "#8c5ba8",
    "procrastinate": "#5b9a68",
    "pgqueuer": "#c0504d",
    "raw": "#9aa0a6",
}
LABELS = {"bare": "bare loop (limit)"}
GOAL = "#555555"
_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "svg.hashsalt": "lockstep",
    "svg.fonttype": "path",
}


def _canvas(width: float, height: float, columns: int = 1) -> tuple[Canvas, list[Axes]]:
    mpl.rcParams.update(_STYLE)
    canvas = Canvas(figsize=(width, height), layout="constrained")
    axes = canvas.subplots(1, columns, squeeze=False)[0]
    return canvas, list(axes)


def throughput(results: Results) -> Canvas | None:
    """Bars of all systems, for each kind of workflow."""
    kinds = {"noop": "no-op", "steps": "3 steps", "steps_threads": "3 steps on threads"}
    shown = {
        workload: {
            peer.name: rate
            for peer in PEERS
            if (rate := median(results, workload, peer.name, "per_second")) is not None
        }
        for workload in kinds
    }
    if not all(shown.values()):
        return None
    most = max(rate for rates in shown.values() for rate in rates.values())
    canvas, axes = _canvas(11, 3.2, len(kinds))
    for axis, (workload, title) in zip(axes, kinds.items(), strict=True):
        rates = sorted(shown[workload].items(), key=lambda item: item[1])
        names = [LABELS.get(name, name) for name, _ in rates]
        bars = axis.barh(names, [rate for _, rate in rates], color=[COLOURS[n] for n, _ in rates])
        axis.bar_label(bars, [f"{rate:,.0f}" for _, rate in rates], padding=3, fontsize=9)
        axis.set_xscale("log")
        axis.set_xlim(30, most * 6)
        axis.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x >= 1000 else f"{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_title(title)
        axis.set_xlabel("workflows per second, log scale")
        axis.tick_params(axis="y", length=0)
    canvas.suptitle("Workflows per second of one worker", x=0.01, ha="left", fontsize=13)
    return canvas


def latency(results: Results) -> Canvas | None:
    """From the median to the 99th percentile, for all systems and ways to hear of work."""
    rows = []
    for system in ("lockstep", "absurd", "dbos"):
        for variant in variants(results, "latency", system):
            p50, p99 = (
                median(results, "latency", system, f"{p}_ms", variant) for p in ("p50", "p99")
            )
            rows.append((system, f"{system}, {variant}", p50 or 0.0, p99 or 0.0))
    if not rows:
        return None
    rows.sort(key=lambda row: -row[2])
    canvas, (axis,) = _canvas(8, 0.6 + 0.5 * len(rows))
    for position, (system, _, p50, p99) in enumerate(rows):
        axis.plot([p50, p99], [position] * 2, color=COLOURS[system], linewidth=3, alpha=0.5)
        axis.plot(p50, position, "o", color=COLOURS[system], markersize=9)
        axis.plot(p99, position, "|", color=COLOURS[system], markersize=14, markeredgewidth=2.5)
        axis.annotate(
            f"{number(p50)} / {number(p99)} ms",
            (p99, position),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    axis.set_yticks(range(len(rows)), [label for _, label, _, _ in rows])
    axis.set_ylim(-0.6, len(rows) - 0.4)
    axis.set_xscale("log")
    axis.set_xlim(1, max(row[3] for row in rows) * 6)
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("milliseconds, log scale: dot p50, bar p99")
    axis.tick_params(axis="y", length=0)
    axis.set_title("From COMMIT to the first line of the workflow, on an idle worker")
    return canvas


def _goal_line(axis: Axes, goal: float, text: str) -> None:
    """Draw a goal, and say so beside the axis, where no data is in the way."""
    axis.axhline(goal, color=GOAL, linestyle="--", linewidth=1)
    axis.annotate(
        text,
        (1, goal),
        xycoords=("axes fraction", "data"),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
        color=GOAL,
    )


def _relative(
    axis: Axes, results: Results, workload: str, labels: list[str], marker: str = "-o"
) -> None:
    """Draw all samples of the variants of a workload, relative to the median of the first."""
    names = variants(results, workload)
    base = median(results, workload, "lockstep", "ratio", names[0]) or 1.0
    medians = []
    for position, variant in enumerate(names):
        values = [v / base for v in pick(results, workload, "lockstep", "ratio", variant)]
        axis.plot(
            [position] * len(values), values, "o", color=COLOURS["lockstep"], alpha=0.35, mew=0
        )
        medians.append((median(results, workload, "lockstep", "ratio", variant) or 0.0) / base)
    _line(axis, labels, medians, "{:.2f}", marker)
    _goal_line(axis, 0.9, "goal\n0.9")


def _line(
    axis: Axes,
    labels: list[str],
    values: list[float],
    text: str,
    marker: str = "-o",
    *,
    is_above: bool = True,
) -> None:
    """Draw one line over categories, from zero, with its values written at the points."""
    axis.plot(range(len(labels)), values, marker, color=COLOURS["lockstep"], linewidth=2)
    for position, value in enumerate(values):
        axis.annotate(
            text.format(value),
            (position, value),
            xytext=(0, 12 if is_above else -12),
            textcoords="offset points",
            ha="center",
            va="center",
        )
    axis.set_xticks(range(len(labels)), labels)
    axis.set_xlim(-0.5, len(labels) - 0.5)
    top = max(axis.get_ylim()[1], max(values) * 1.25)
    axis.set_ylim(0, top)


def _short(count: int) -> str:
    """Return a count as it is spoken of."""
    for size, word in ((1_000_000, "million"), (1_000, "thousand")):
        if count >= size:
            return f"{count / size:g} {word}"
    return f"{count}"


def _spoken(variant: str) -> str:
    return " ".join(_short(int(word)) if word.isdecimal() else word for word in variant.split())


def history(results: Results) -> Canvas | None:
    """Throughput and cost against the number of finished workflows."""
    names = variants(results, "history")
    if not names:
        return None
    labels = [_short(int(name.split()[0])) for name in names]
    canvas, (left, right) = _canvas(9, 3.4, 2)
    _relative(left, results, "history", labels)
    left.set_title("Throughput")
    left.set_ylabel("relative to empty tables")
    cpu = [median(results, "history", "lockstep", "postgres_cpu_us", name) or 0 for name in names]
    _line(right, labels, cpu, "{:.0f}")
    right.set_title("CPU of Postgres")
    right.set_ylabel("µs per workflow")
    for axis in (left, right):
        axis.set_xlabel("finished workflows in the tables, with 3 steps each")
    canvas.suptitle("3-step workflows beside a long history", x=0.01, ha="left", fontsize=13)
    return canvas


def backlog(results: Results) -> Canvas | None:
    """Throughput against the number of workflows that wait or sleep."""
    names = variants(results, "backlog")
    if not names:
        return None
    canvas, (axis,) = _canvas(7, 3.4)
    labels = [",\nbeside ".join(_spoken(part) for part in name.split(", ")) for name in names]
    _relative(axis, results, "backlog", labels, "o")
    axis.set_title("No-op throughput with a large backlog")
    axis.set_ylabel("relative to a short queue")
    return canvas


def snapshot(results: Results) -> Canvas | None:
    """Throughput over time, before and while a snapshot is open."""
    samples = [s for s in results["samples"] if s["workload"] == "snapshot"]
    if not samples:
        return None
    sample = samples[0]
    window = float(sample["window_seconds"])
    middles = [(index + 0.5) * window for index, _ in sample["windows"]]
    rates = [rate for _, rate in sample["windows"]]
    end = (sample["windows"][-1][0] + 1) * window
    canvas, (axis,) = _canvas(8, 3.4)
    axis.axvspan(0, end, color="#f0e6d8", linewidth=0)
    axis.text(end / 2, max(rates) * 1.2, "snapshot open", ha="center", va="top", color=GOAL)
    axis.plot(middles, rates, "-o", color=COLOURS["lockstep"], markersize=4)
    goal = sample["per_second_before"] * 0.6
    _goal_line(axis, goal, "goal:\n0.6 of\nbefore")
    axis.set_xlim(middles[0] - window / 2, end)
    axis.set_ylim(0, max(rates) * 1.25)
    axis.set_xlabel("seconds since another session opened a snapshot")
    axis.set_ylabel(f"workflows per second, over {window:g} s")
    axis.yaxis.set_major_formatter("{x:,.0f}")
    axis.set_title("3-step throughput while another session holds a snapshot")
    return canvas


def scaling(results: Results) -> Canvas | None:
    """Throughput against the number of workers, and of connections."""
    names = variants(results, "connections")
    workers: dict[str, list[Any]] = {
        what: [
            median(results, workflow, system, "per_second")
            for system in ("lockstep", "lockstep x2")
        ]
        for workflow, what in (("noop", "no-op"), ("steps", "3 steps"))
    }
    if not names or any(None in rates for rates in workers.values()):
        return None
    canvas, (left, right) = _canvas(9, 3.4, 2)
    for what, rates in workers.items():
        is_noop = what == "no-op"
        _line(left, ["1", "2"], rates, "{:,.0f}", "-o" if is_noop else "--s", is_above=is_noop)
        left.annotate(what, (1, rates[1]), xytext=(10, -3), textcoords="offset points", fontsize=9)
    left.set_title("Workers")
    left.set_xlabel("worker processes")
    left.set_ylim(0, max(max(rates) for rates in workers.values()) * 1.25)
    rates = [median(results, "connections", "lockstep", "per_second", name) or 0 for name in names]
    _line(right, [name.split()[0] for name in names], rates, "{:,.0f}")
    right.set_title("Connections")
    right.set_xlabel("connections, each call finishes 10 and claims 10")
    for axis in (left, right):
        axis.set_ylabel("workflows per second")
        axis.yaxis.set_major_formatter("{x:,.0f}")
    canvas.suptitle("One queue, several at work", x=0.01, ha="left", fontsize=13)
    return canvas


PLOTS: dict[str, Callable[[Results], Canvas | None]] = {
    "throughput": throughput,
    "latency": latency,
    "history": history,
    "backlog": backlog,
    "snapshot": snapshot,
    "scaling": scaling,
}
