"""What a report says of a run: its tables, its pictures, and the folder that they are written to."""
