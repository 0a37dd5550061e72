"""Leaderboards: the schema of the table, adding, verifying, showing and retracting rows."""
