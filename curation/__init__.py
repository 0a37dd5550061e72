"""Curation: raw videos and 3-D dances to a data set."""
