"""The soak as a picture: every series over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from .samples import Sample

_PANELS = [
    (
        "latency of a workflow, from enqueue to result (ms)",
        {"latency_p50_ms": "p50", "latency_p99_ms": "p99"},
    ),
    ("finished per second", {"finished_per_second": ""}),
    ("tables and indexes (MB)", {"tables_mb": "tables", "indexes_mb": "indexes"}),
    ("indexes of workflow_status (MB)", {"workflow_indexes_mb": ""}),
    ("rows that are dead, and not yet vacuumed", {"dead_tuples": ""}),
    ("memory of the worker that is never killed (MB)", {"worker_mb": ""}),
]
_STYLE: dict[Any, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "svg.hashsalt": "lockstep",
}


def draw(
    samples: list[Sample], warm_after: float, crashes: list[float], title: str, path: Path
) -> None:
    """Draw every series; the time in which the system warms up is grey."""
    mpl.rcParams.update(_STYLE)
    canvas = Figure(figsize=(10, 8), layout="constrained")
    canvas.suptitle(title, x=0.01, ha="left")
    minutes = [sample.seconds / 60 for sample in samples]
    for axes, (name, series) in zip(canvas.subplots(3, 2).flat, _PANELS, strict=True):
        for field, label in series.items():
            values = [getattr(sample, field) for sample in samples]
            axes.plot(minutes, values, label=label, linewidth=1)
        axes.axvspan(0, warm_after / 60, color="#eeeeee")
        axes.set_title(name)
        axes.set_xlabel("minutes")
        if "latency" in name:
            axes.set_yscale("log")
            for number, crash in enumerate(crashes):
                label = "" if number else "server killed"
                axes.axvline(crash / 60, color="#bbbbbb", linewidth=0.7, zorder=0, label=label)
        else:
            axes.set_ylim(0, 1.1 * max(max(line.get_ydata()) for line in axes.lines))
        axes.set_xlim(0, max(minutes))
        if len(series) > 1:
            axes.legend(frameon=False, fontsize=8)
    canvas.savefig(path)
