"""The report of a run: its contents, its plots, its page, and the folder that they are written to."""
