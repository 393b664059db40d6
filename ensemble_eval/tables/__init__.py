"""Tables as text, and the style of plots, for every job and every report."""
