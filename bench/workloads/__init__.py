"""What is measured, one module per workload, in the order in which ``make bench`` runs them."""

WORKLOADS = (
    "enqueue",
    "bulk_enqueue",
    "noop",
    "limits",
    "steps",
    "steps_threads",
    "transactional",
    "latency",
    "checkpoint",
    "memory",
    "idle",
    "connections",
    "backlog",
    "wake",
    "snapshot",
    "history",
)
