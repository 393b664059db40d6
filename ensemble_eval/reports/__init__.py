"""The report of a run: its contents, plots and page, and the results of `read_results`."""
