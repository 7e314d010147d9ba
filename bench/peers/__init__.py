"""One module per measured system; see :mod:`bench.peers.base`."""
