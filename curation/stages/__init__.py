"""Curation stages: one file each."""
