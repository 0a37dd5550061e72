"""Baselines: calibration rows, and adapters of other people's systems."""
