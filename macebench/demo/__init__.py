"""The demo data set: music, dances and videos made by code, deterministic from a seed."""
