"""Networks: how they are loaded, what is done to their inputs, where they are read.

::

    subject/        the network under study: sources, weights, preprocessing, layers, pooling
    classifier.py   … in two halves: an encoder, and the linear layer that reads it
    vlm/            vision-language models: open_clip; ConSE over objects, colours, materials
    attacks.py      images changed by an adversary within ε
    views.py        images mirrored, or moved by a pixel
    pixels.py       preprocessing sooner, with the same bits
    compiled.py     both networks by torch.compile
    records.py      what a run records of them
"""
