"""Pictures that the package draws itself: 64 classes, labelled, the same pixels from the same seed."""
