"""The contenders, each a program of its own that does one piece of work and prints what it took as JSON."""
