"""What a run was: counted while it goes on, printed at its end."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from .oracle import Violation
from .reader import Figure

_LONGEST_LIST = 20
_RECOVERED = re.compile(r"took over (\d+) workflows")
_LEASE_LOST = re.compile(r"lease lost")
_UNEXPECTED = re.compile(r"exception was never retrieved|worker failed")


@dataclass
class Report:
    """The figures of a run."""

    seed: int
    command: str
    injected: Counter[str] = field(default_factory=Counter)
    not_injected: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    """What the harness saw beside the oracle: workers that ended by themselves and the like."""
    duration: float = 0.0
    drained_after: float = 0.0
    longest_standstill: float = 0.0
    standstill_after: str = ""
    started_workers: int = 0
    recovered: int = 0
    lost_leases: int = 0
    statuses: list[tuple[str, str, int]] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def is_good(self) -> bool:
        return not self.violations and not self.troubles

    def read_database(self, connection: psycopg.Connection[Any]) -> None:
        """Count what is in the database."""
        self.statuses = connection.execute(
            "SELECT workflow_name, status, count(*) FROM lockstep.workflow_status"
            " GROUP BY 1, 2 ORDER BY 1, 2"
        ).fetchall()
        for name, query in {
            "workflows": "SELECT count(*) FROM lockstep.workflow_status",
            "steps": "SELECT count(*) FROM lockstep.operation_outputs",
            "messages": "SELECT count(*) FROM lockstep.notifications",
            "transactional effects": "SELECT count(*) FROM bank.entry",
            "side effects": "SELECT count(*) FROM bank.effect WHERE outcome = 'done'",
            "workflows run again after a death": (
                "SELECT count(*) FROM lockstep.workflow_status WHERE attempts > 1"
            ),
            "side effects repeated": (
                "SELECT coalesce(sum(n - 1), 0) FROM (SELECT count(*) AS n FROM bank.effect"
                " WHERE outcome = 'done' GROUP BY workflow_id) AS e"
            ),
        }.items():
            row = connection.execute(query).fetchone()
            assert row is not None
            self.counts[name] = int(row[0])

    def read_logs(self, logs: list[Path]) -> None:
        """Count what the workers say in their logs."""
        for log in logs:
            text = log.read_text(errors="replace")
            for match in _RECOVERED.finditer(text):
                self.recovered += int(match[1])
            self.lost_leases += len(_LEASE_LOST.findall(text))
            for match in _UNEXPECTED.finditer(text):
                self.troubles.append(f"{log.name}: {text[match.start() :][:1500]}")

    def __str__(self) -> str:
        lines = [
            "",
            f"seed {self.seed}: {self.duration:.0f} s, drained after {self.drained_after:.0f} s",
        ]
        lines.append(f"faults: {sum(self.injected.values())} injected")
        lines += [f"  {n:5} {kind}" for kind, n in sorted(self.injected.items())]
        if self.not_injected:
            lines.append(f"faults that could not be injected: {sum(self.not_injected.values())}")
            lines += [f"  {n:5} {what}" for what, n in sorted(self.not_injected.items())]
        lines.append("workflows:")
        lines += [f"  {n:7} {name:20} {status}" for name, status, n in self.statuses]
        lines += [f"{name}: {count}" for name, count in self.counts.items()]
        lines.append(f"workers started: {self.started_workers}")
        lines.append(f"recoveries: {self.recovered}")
        lines.append(f"leases lost by live workers: {self.lost_leases}")
        lines.append(
            f"longest time in which no workflow ended: {self.longest_standstill:.1f} s"
            f" ({self.standstill_after})"
        )
        lines += [str(figure) for figure in self.figures]
        lines += [f"TROUBLE {trouble}" for trouble in self.troubles[:_LONGEST_LIST]]
        by_check = Counter(violation.check.name for violation in self.violations)
        for name, count in by_check.items():
            lines.append(f"VIOLATED {count} times: {name}")
            rows = [str(v) for v in self.violations if v.check.name == name]
            lines += [f"    {row[:600]}" for row in rows[:_LONGEST_LIST]]
        lines.append(f"violations: {len(self.violations) + len(self.troubles)}")
        lines.append(f"to repeat: {self.command}")
        return "\n".join(lines)
