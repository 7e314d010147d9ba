"""
The soak: a steady load on the bank, with faults, for long; nothing may grow with time.

The workload, the faults and the oracle are those of the fault harness. Beside them go on a
canary (``canary``), which measures from outside, retention (``retention``), and the looks at
sizes and memory (``samples``), whose trends (``trend``) are judged once the system is warm.
"""
