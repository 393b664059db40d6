"""Rows of results as text."""
