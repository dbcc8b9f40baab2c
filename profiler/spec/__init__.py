"""Specifications in concepts: written down, checked on images, proved on regions, mined."""
