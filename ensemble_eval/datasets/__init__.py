"""Labelled images, one reader per layout."""
