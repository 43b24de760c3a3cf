from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from tests.propagation.pixels.conftest import FRAMES, draw
from tests.tiny import moving_square
from tokenflow.errors import ConfigError
from tokenflow.propagation.pixels.dense_flow import NeighbourFlow
from tokenflow.regions.given import carry_mask, read_masks, scaled
from tokenflow.video import Video, VideoWriter

VIDEO = Video(moving_square(4, 16, 24), rate=10)
MASK = np.zeros((16, 24), np.uint8)
MASK[4:8, 4:12] = 255


CUT_OUT = Image.merge("RGBA", [Image.new("L", (24, 16), 60)] * 3 + [Image.fromarray(MASK)])


@pytest.mark.parametrize(
    "given",
    [
        MASK,
        MASK > 0,
        MASK / 255,
        MASK[None],
        MASK[..., None],
        MASK // 255,
        np.where(MASK > 0, 1, 0),
        torch.from_numpy(MASK / 255).bfloat16(),
        Image.fromarray(MASK),
        Image.fromarray(MASK.astype(np.uint16) * 257),
        CUT_OUT,
    ],
)
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


@pytest.mark.parametrize(
    "given",
    [np.zeros(3), b"text", np.full((2, 3), 3.0), np.full((2, 3), np.nan), np.full((2, 3), 300), np.zeros((0, 2, 3))],
)
def test_what_is_no_mask_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match="a region's mask: expected"):
        read_masks(given, VIDEO)


def test_a_mask_is_carried_with_what_it_covers() -> None:
    clip = np.stack([draw(frame, "disc") for frame in range(FRAMES)])
    discs = np.stack([np.abs(frame.astype(int) - clip[0, 0, 0]).max(-1) > 40 for frame in clip])
    flow = NeighbourFlow(clip, FRAMES, clip.shape[2:0:-1])
    middle = FRAMES // 2
    carried = dict(carry_mask(discs[middle].astype(np.uint8) * 255, middle, flow, FRAMES))
    assert sorted(carried) == list(range(FRAMES))
    for frame, mask in carried.items():
        inside = mask > 127
        assert (inside & discs[frame]).sum() / (inside | discs[frame]).sum() > 0.8


def test_a_mask_at_the_border_does_not_smear_into_what_comes_into_view() -> None:
    texture = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (48, 120, 3), np.uint8), (0, 0), 1.5)
    clip = np.stack([texture[:, 40 - 4 * frame : 104 - 4 * frame] for frame in range(6)])  # a pan to the left
    mask = np.zeros((48, 64), np.uint8)
    mask[:, :16] = 255
    carried = dict(carry_mask(mask, 0, NeighbourFlow(clip, 6, (64, 48)), 6))
    assert (carried[5] > 127).mean() == pytest.approx((mask > 127).mean(), rel=0.15)


def test_an_image_with_transparency_is_a_mask_by_its_opacity(tmp_path: Path) -> None:
    CUT_OUT.save(tmp_path / "cut.png")
    assert np.array_equal(read_masks(tmp_path / "cut.png", VIDEO), MASK[None])


def test_what_a_codec_leaves_beside_black_and_white_is_neither(tmp_path: Path) -> None:
    Image.fromarray(np.where(MASK > 0, 250, 5).astype(np.uint8)).save(tmp_path / "mask.png")
    assert np.array_equal(read_masks(tmp_path / "mask.png", VIDEO), MASK[None])


def test_a_mask_of_another_aspect_ratio_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"is 16×24, but the clip is 24×16"):
        read_masks(MASK.T, VIDEO)


def test_a_folder_of_masks_cannot_be_resampled(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "clip.mkv", width=24, height=16, codec="ffv1", rate=10) as writer:
        for frame in VIDEO.frames:
            writer.write(frame)
    (tmp_path / "masks").mkdir()
    for index in range(4):
        Image.fromarray(MASK).save(tmp_path / "masks" / f"{index:03d}.png")
    with pytest.raises(ConfigError, match=r"no times of their own, so clip\.rate cannot be applied"):
        read_masks(tmp_path / "masks", Video.read(tmp_path / "clip.mkv", rate=5))


def test_a_mask_of_another_size_is_scaled() -> None:
    assert scaled(MASK, 48, 32).shape == (32, 48)
    assert scaled(MASK, 12, 8)[2:4, 2:6].min() == 255
