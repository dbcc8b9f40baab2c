"""Profiler: what a vision network has learned and where it fails, in words."""

__version__ = "0.1.0"
