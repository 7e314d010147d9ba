"""
The faults: one class for each kind, drawn from the plan's random numbers.

``inject`` does the damage and, where that is not the supervisor's task, repairs it. Faults
of one part (``part``) take turns; those of different parts overlap.
"""

from . import network, server, workers, workload
from .fault import KINDS, Fault, NotInjected, kind, seconds

__all__ = [
    "KINDS",
    "Fault",
    "NotInjected",
    "kind",
    "network",
    "seconds",
    "server",
    "workers",
    "workload",
]
