"""The one pass over the images, for all networks at once.

::

    collect.py     batches of images through the networks; workers, memory, broken images
    top_lists.py   the images that drive each unit most, merged while images stream through
    moments.py     how embeddings and activations vary together: sums by fold of the images
    kept.py        … made once, kept shard by shard, and merged
    observe.py     what classifier and VLM make of labelled images, attacked or corrupted
"""
