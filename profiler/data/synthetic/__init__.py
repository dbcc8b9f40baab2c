"""Synthetic scenes whose colour, pattern, material, shape and background are known."""
