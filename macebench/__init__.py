"""macebench: a benchmark and evaluation toolkit for music-driven dance generation.

The package imports nothing heavy: every command loads what it needs when it needs it.
"""

__version__ = "0.1.0"
