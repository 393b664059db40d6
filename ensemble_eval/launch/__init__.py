"""Who this process is among those of a run, and how processes start, are watched and stop."""
