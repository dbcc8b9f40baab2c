"""Annotations in the part of a VLM: what they say of an image is its row, and nothing is looked at.

An attribute m is the m-th unit vector t_m, so that t_m · v, with v the image's row, is the
attribute's value: all that is worked out from concepts and images is the same as with a VLM. Values
count in the attribute's standard deviations, so that brightness in 0 … 255 outweighs no yes or no
where all attributes are taken together. The rows of images are no unit rows: nothing is a cosine.
"""

from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from profiler.data.annotations import Annotations
from profiler.models.vlm.base import Embeddings, TextEncoder


class AnnotatedVLM:
    """Implements :class:`~profiler.models.vlm.base.VLM`, as far as no image is seen.

    Args:
        annotations: of the images.
        words: compares words with words where they are to be sorted.
    """

    template = "{}"

    def __init__(self, annotations: Annotations, words: TextEncoder) -> None:
        self.annotations = annotations
        self.words = words
        self.name = annotations.title
        self.fingerprint = annotations.fingerprint
        self.notes = annotations.notes
        self.limits = (
            "The words are the attributes that the images came with: what these leave out no word "
            "names, and of attributes that go together any may stand for the others."
        )

    @property
    def rows(self) -> Embeddings:
        """(N, M) the images' attributes, each in its standard deviations."""
        values = np.asarray(self.annotations.values, np.float64)
        return np.asarray(values / values.std(axis=0), np.float32)

    def preprocess(self, _image: object) -> NoReturn:
        """Not called: the rows of all images are known."""
        raise AssertionError("annotations see no image")

    embed_images = preprocess

    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        """M attributes → (M, M) unit vectors."""
        place = {word: i for i, word in enumerate(self.annotations.words)}
        return attribute_rows(len(place))[[place[text] for text in texts]]


def attribute_rows(attributes: int) -> Embeddings:
    """(M, M) unit vectors: the concepts that attributes are."""
    return np.eye(attributes, dtype=np.float32)
