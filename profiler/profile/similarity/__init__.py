"""How well each concept describes a unit: the five similarities of CLIP-Dissect.

All have one signature, :class:`.base.Similarity`; soft-WPMI is the default.
"""
