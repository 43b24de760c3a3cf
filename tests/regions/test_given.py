from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.propagation.pixels.conftest import FRAMES, draw
from tests.tiny import moving_square
from tokenflow.errors import ConfigError
from tokenflow.propagation.pixels.dense_flow import DenseFlow
from tokenflow.regions.given import carry_mask, read_masks, scaled
from tokenflow.video import Video, VideoWriter

VIDEO = Video(moving_square(4, 16, 24), rate=10)
MASK = np.zeros((16, 24), np.uint8)
MASK[4:8, 4:12] = 255


@pytest.mark.parametrize("given", [MASK, MASK > 0, MASK / 255, Image.fromarray(MASK), MASK[None]])
def test_one_mask_in_any_form(given: Any) -> None:
    assert np.array_equal(read_masks(given, VIDEO), MASK[None])


def test_an_image_file_is_one_mask_and_a_video_has_one_per_frame(tmp_path: Path) -> None:
    Image.fromarray(MASK).save(tmp_path / "mask.png")
    assert np.array_equal(read_masks(tmp_path / "mask.png", VIDEO), MASK[None])
    with VideoWriter(tmp_path / "mask.mkv", width=24, height=16, codec="ffv1", rate=10) as writer:
        for index in range(4):
            writer.write(np.repeat(np.roll(MASK, index, axis=1)[..., None], 3, axis=2))
    masks = read_masks(tmp_path / "mask.mkv", VIDEO)
    assert np.array_equal(masks, np.stack([np.roll(MASK, index, axis=1) for index in range(4)]))


def test_the_same_part_of_a_mask_is_read_as_of_the_clip(tmp_path: Path) -> None:
    for name, frames in (("clip", VIDEO.frames), ("mask", np.repeat(np.arange(4, dtype=np.uint8) * 60, 16 * 24 * 3))):
        with VideoWriter(tmp_path / f"{name}.mkv", width=24, height=16, codec="ffv1", rate=10) as writer:
            for frame in np.reshape(frames, (4, 16, 24, 3)):
                writer.write(frame)
    part = Video.read(tmp_path / "clip.mkv", start=0.1, every=2)
    assert read_masks(tmp_path / "mask.mkv", part)[:, 0, 0].tolist() == [60, 180]


@pytest.mark.parametrize("given", [np.zeros(3), b"text", np.full((2, 2), 3.0), np.zeros((2, 2), np.uint16)])
def test_what_is_no_mask_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match="a region's mask: expected"):
        read_masks(given, VIDEO)


def test_a_mask_is_carried_with_what_it_covers() -> None:
    clip = np.stack([draw(frame, "disc") for frame in range(FRAMES)])
    discs = np.stack([np.abs(frame.astype(int) - clip[0, 0, 0]).max(-1) > 40 for frame in clip])
    flow = DenseFlow(clip)
    middle = FRAMES // 2
    for frame in range(FRAMES):
        carried = carry_mask(discs[middle].astype(np.uint8) * 255, middle, frame, flow) > 127
        assert (carried & discs[frame]).sum() / (carried | discs[frame]).sum() > 0.8


def test_a_mask_of_another_size_is_scaled() -> None:
    assert scaled(MASK, 48, 32).shape == (32, 48)
    assert scaled(MASK, 12, 8)[2:4, 2:6].min() == 255
