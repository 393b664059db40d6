"""Members of an ensemble: from a manifest to loaded networks and their preprocessing."""
