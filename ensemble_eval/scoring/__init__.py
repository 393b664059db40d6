"""Arithmetic of scores: ranks, decisions, errors with their intervals, Table 3."""
