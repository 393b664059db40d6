"""The interface between members and evaluation, and the one loop that runs crops through members."""
