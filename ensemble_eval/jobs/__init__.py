"""How a job runs: its process and its workers, signals, the one runner, prefetching, and Slurm."""
