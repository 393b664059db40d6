"""From opened inputs to an outcome: one process's work, and the whole job."""
