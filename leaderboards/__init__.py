"""Leaderboards: the table's schema, adding, verifying and showing rows."""
