"""The categories that words are sorted into, unless a user brings others."""

DEFAULT_CATEGORIES = ("object", "part", "scene", "material", "texture", "color")
"""Those of Network Dissection (Bau et al. 2017), used for layer profiles by Li & Weng (2023)."""
UNKNOWN = "unknown"
"""The category of a trusted label that fits none of the others."""
