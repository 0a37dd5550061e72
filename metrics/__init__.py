"""Metrics: pure functions of arrays, and the registered metrics that put them under a protocol."""
