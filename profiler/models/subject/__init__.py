"""The network under study.

::

    loading.py        a name and options → a subject
    sources.py        what each kind of name stands for: torchvision, timm, open_clip, packages
    hubs.py           weights that lie elsewhere: the Hugging Face hub, tags of open_clip
    factories.py      … and FILE.py:FACTORY
    weight_files.py   what lies in a file of weights
    checkpoints.py    … held against the network
    preprocessing.py  what is done to an image first
    network.py        a subject: its layers, and what they give for images
    groups.py         all, mlp, leaves
    heads.py          which modules give the output
    hooks.py          how outputs are seen
    trial.py          the first images, tried before the rest: randomness, batches, types
"""
