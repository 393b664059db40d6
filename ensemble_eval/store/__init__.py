"""One crash-safe store for every job: its key, its parts, its record, and what they say of progress."""
