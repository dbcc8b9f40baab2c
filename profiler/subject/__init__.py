"""The network under study.

::

    loading.py        a name and options → a subject
    sources.py        what each kind of name stands for: torchvision, timm, open_clip, packages
    hubs.py           weights that lie elsewhere: the Hugging Face hub, tags of open_clip
    factories.py      … and FILE.py:FACTORY
    checkpoints.py    weights out of a file
    preprocessing.py  what is done to an image first
    network.py        a subject: its layers, and what they give for images
    groups.py         all, mlp, leaves
    heads.py          which modules give the output
    hooks.py          how outputs are seen
"""

from profiler.subject.factories import load_factory
from profiler.subject.groups import GROUPS
from profiler.subject.hubs import OpenCLIPWeights
from profiler.subject.loading import SubjectOptions, load_subject
from profiler.subject.network import Layer, Subject, weights_digest
from profiler.subject.preprocessing import Preprocess
from profiler.subject.sources import lite_model

__all__ = [
    "GROUPS",
    "Layer",
    "OpenCLIPWeights",
    "Preprocess",
    "Subject",
    "SubjectOptions",
    "lite_model",
    "load_factory",
    "load_subject",
    "weights_digest",
]
