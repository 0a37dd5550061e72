"""Dances to learn from: procedural, recorded and published ones, with the music that they belong to."""
