"""
The fault harness: a bank and its orders, driven while a seeded plan of faults is injected.

``plan`` draws the faults from a seed, ``injections`` has a class for each kind, ``app`` and
``driver`` are the workload, ``site`` is what is broken (server, disks, network, workers),
and ``oracle`` judges from outside, in SQL, what is left when everything has drained.
Another topology brings another ``Site``; other faults register themselves in KINDS.
"""
