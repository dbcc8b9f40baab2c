"""What the program reads, each with a fingerprint.

::

    images.py         probe images: folders, and the built-in sets
    encoded.py        probe images in tar shards, in Parquet, and at addresses
    concept_sets.py   lists of concepts
    labelled/         images with a true class, and what a network's outputs are called
    synthetic/        the built-in scenes and their truth
    corruptions.py    images as bad weather, cameras and storage leave them
    records.py        what a run records of them
"""
