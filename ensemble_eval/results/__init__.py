"""Reading the store of a run, and analyses of it: from stored predictions to tables."""
