"""How fast this is, beside what else one would use: `make bench`, and `python -m benchmarks.memory`."""
