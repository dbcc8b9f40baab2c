"""What of a picture a network sees, measured through its preprocessing."""

import numpy as np
import pytest
import torch
from PIL import Image
from preprocessings import KINDS, centre_crop, letterbox, squash
from torchvision import transforms

from profiler.models.subject.geometry import Frame, frames_of

NORMALIZE = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize("size", [(200, 150), (120, 180), (160, 160)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_white_square_is_where_the_frame_says(kind: str, size: tuple[int, int]) -> None:
    preprocess = KINDS[kind]()
    frame = frames_of(preprocess)(size)
    assert frame is not None
    width, height = size
    looked = 0
    for x, y in ((0.5, 0.5), (0.4, 0.3), (0.65, 0.6)):
        picture = Image.new("RGB", size)
        box = [round(x * width) - 6, round(y * height) - 6, round(x * width) + 6,
               round(y * height) + 6]  # fmt: skip
        picture.paste((255, 255, 255), tuple(box))
        left, top, right, bottom = frame.seen
        if not (left * width < box[0] and box[2] < right * width):
            continue
        if not (top * height < box[1] and box[3] < bottom * height):
            continue
        light = np.asarray(preprocess(picture)).sum(axis=0)
        rows, columns = np.nonzero(light > (light.max() + np.median(light)) / 2)
        middle = np.array([[(columns.mean() + 0.5) / 112, (rows.mean() + 0.5) / 112]])
        found = frame.place(middle)[0] * size
        assert np.abs(found - [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]).max() < 1.5
        looked += 1
    assert looked


def test_frames_by_arithmetic() -> None:
    # 200 × 150 becomes 170 × 128, of which 112 × 112 in the middle are seen.
    seen = frames_of(centre_crop())((200, 150))
    assert seen is not None
    assert (seen.left, seen.top) == pytest.approx((29 / 170, 8 / 128), abs=0.005)
    assert (seen.right, seen.bottom) == pytest.approx((141 / 170, 120 / 128), abs=0.005)
    # 200 × 150 fills the width of the box; above and below there is gray.
    padded = frames_of(letterbox)((200, 150))
    assert padded is not None
    assert padded.seen == pytest.approx((0, 0, 1, 1), abs=0.01)
    assert (padded.top, padded.bottom) == pytest.approx((-1 / 6, 7 / 6), abs=0.01)


def test_what_cannot_be_measured_is_none() -> None:
    mirrored = transforms.Compose([transforms.RandomHorizontalFlip(1.0), squash()])
    turned = transforms.Compose([lambda image: image.transpose(Image.Transpose.ROTATE_90),
                                 squash()])  # fmt: skip
    grey = transforms.Compose([transforms.Grayscale(3), squash()])

    def fails(image: Image.Image) -> torch.Tensor:
        raise ValueError("never")

    for preprocess in (mirrored, turned, grey, fails):
        assert frames_of(preprocess)((200, 150)) is None


def test_normalised_or_not_the_frame_is_the_same() -> None:
    plain = transforms.Compose([transforms.Resize(112), transforms.CenterCrop(112),
                                transforms.ToTensor()])  # fmt: skip
    scaled = transforms.Compose([plain, NORMALIZE])
    one, other = frames_of(plain)((150, 120)), frames_of(scaled)((150, 120))
    assert isinstance(one, Frame)
    assert isinstance(other, Frame)
    assert (one.left, one.right) == pytest.approx((other.left, other.right), abs=1e-4)
