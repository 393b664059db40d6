"""One run's output folder: stored predictions, the tables made from them, and reading them back."""
