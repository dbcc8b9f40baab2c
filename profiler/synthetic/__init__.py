"""Synthetic scenes whose colour, pattern, material, shape and background are known."""

from profiler.synthetic.scenes import VERSION, Scene, SyntheticScenes

__all__ = ["VERSION", "Scene", "SyntheticScenes"]
