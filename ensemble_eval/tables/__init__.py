"""What a table is, and how it becomes text or a picture: for every job and every report."""
