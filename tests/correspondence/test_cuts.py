"""Cuts found in drawn and random clips."""

import numpy as np
import pytest

from tests.correspondence.test_flow import texture
from tokenflow.correspondence.cuts import find_cuts
from tools.mini_sd.build_clips import CLIPS


def frames(name: str, step: int = 4) -> np.ndarray:
    clip = CLIPS[name]
    pictures = [clip.render(frame).picture for frame in range(0, clip.frames, step)]
    return (np.stack(pictures) * 255).round().astype(np.uint8)


def test_cuts_between_drawn_scenes_are_found_and_fast_motion_is_none() -> None:
    dog, car = frames("dog_walk"), frames("car_drive")
    assert find_cuts(dog) == find_cuts(car) == ()
    assert find_cuts(np.concatenate([dog, car, dog])) == (len(dog), len(dog) + len(car))


@pytest.mark.parametrize("brightness", [0.5, 0.2])
def test_cuts_between_dark_scenes_are_found(brightness: float) -> None:
    dog, car = ((brightness * frames(name)).astype(np.uint8) for name in ("dog_walk", "car_drive"))
    assert find_cuts(np.concatenate([dog, car])) == (len(dog),)


def test_a_flash_and_grain_are_no_cuts() -> None:
    dog = frames("dog_walk")
    flash = dog.copy()
    flash[3] = 255
    assert find_cuts(flash) == ()
    noise = np.random.default_rng(0).normal(0, 40, dog.shape)
    assert find_cuts((dog + noise).clip(0, 255).astype(np.uint8)) == ()


def test_a_shot_of_one_frame_and_a_flash_between_two_shots_are_shots() -> None:
    dog, car = frames("dog_walk"), frames("car_drive")
    for between in (255 - car[:1], np.full_like(car[:1], 255)):
        assert find_cuts(np.concatenate([dog, between, car])) == (len(dog), len(dog) + 1)


@pytest.mark.parametrize(("height", "width"), [(2, 512), (512, 2), (12, 96), (4, 3000), (64, 12000), (1, 1)])
def test_cuts_are_found_in_frames_of_any_shape(height: int, width: int) -> None:
    dark, bright = (np.full((3, height, width, 3), value, np.uint8) for value in (40, 200))
    assert find_cuts(np.concatenate([dark, bright])) == (3,)


def test_between_two_frames_no_cut_is_found_and_among_three_there_may_be_one() -> None:
    one, other = texture(40, 60), texture(60, 40).transpose(1, 0, 2)
    assert find_cuts([one]) == ()
    assert find_cuts([one, 255 - other]) == ()
    assert find_cuts([one, 255 - other, 255 - other]) == (1,)
