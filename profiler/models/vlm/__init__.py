"""Vision-language models: image and text embeddings in one space.

Two kinds, behind one protocol: models of ``open_clip``, and ConSE (Norouzi et al., ICLR 2014),
which makes an image embedding out of image classifiers and a sentence encoder and so needs
nothing but packages.

::

    base.py        the protocols; embeddings that are kept
    clip.py        models of open_clip
    sentence.py    sentence encoders
    space.py       lists of words, and the space that compares images with captions by them
    conse.py       image classifiers and a sentence encoder as a VLM
    colors.py      perceptual colour naming
    middle.py      probes on the middle layers of a network, trained on synthetic scenes
    looks.py       objects, colours, patterns and materials off one pass of one network
    tagger.py      a user's own classifier as a vocabulary
    choose.py      what each name given to --vlm stands for
    catalogue.py   what is here, what it sees and weighs
"""
