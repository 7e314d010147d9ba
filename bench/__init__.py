"""The benchmark of Lockstep: start it with ``make bench``."""
