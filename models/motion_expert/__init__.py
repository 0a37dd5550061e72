"""The Motion Expert: music to 3-D dance."""
