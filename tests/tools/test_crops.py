import cv2
import numpy as np
import pytest

from tools.mini_sd.autoencoder import Batches
from tools.mini_sd.crops import abstract, crops, cut, photograph, swap_colours
from tools.mini_sd.photographs import SHORTER_SIDES, detail, load_photographs, shrink
from tools.mini_sd.scene import PICTURE


@pytest.fixture
def photographs():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (320, 400, 3), dtype=np.uint8) for _ in range(3)]


def test_a_batch_holds_crops_in_range(photographs):
    batch = crops(np.random.default_rng(0), photographs, 9, 96)
    assert batch.shape == (9, 3, 96, 96)
    assert batch.min() >= 0
    assert batch.max() <= 1


def test_a_cut_is_a_part_of_the_picture():
    picture = np.arange(40 * 50 * 3).reshape(40, 50, 3)
    part = cut(picture, 16, np.random.default_rng(3))
    top, left = np.argwhere((picture == part[0, 0]).all(axis=2))[0]
    np.testing.assert_array_equal(part, picture[top : top + 16, left : left + 16])


def test_photographs_are_mirrored_now_and_then():
    slope = np.broadcast_to(np.arange(100, dtype=np.uint8)[None, :, None], (100, 100, 3))
    rng = np.random.default_rng(0)
    directions = {float(np.sign(np.diff(photograph([slope], 32, rng)[0, :, 0]).sum())) for _ in range(20)}
    assert directions == {-1.0, 1.0}


def test_abstract_drawings_differ():
    rng = np.random.default_rng(0)
    drawn = [abstract(64, rng) for _ in range(6)]
    assert all(one.shape == (64, 64, 3) and one.min() >= 0 and one.max() <= 1 for one in drawn)
    assert min(np.abs(drawn[0] - other).mean() for other in drawn[1:]) > 0.02


def test_colours_change_places_now_and_then():
    picture = np.broadcast_to(np.float32([0.1, 0.5, 0.9]), (8, 8, 3))
    rng = np.random.default_rng(0)
    swapped = [tuple(swap_colours(picture, rng)[0, 0].tolist()) for _ in range(100)]
    assert len(set(swapped)) == 6
    assert 50 < swapped.count(tuple(picture[0, 0].tolist())) < 85


def test_missing_photographs_say_what_to_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tools\.mini_sd\.photographs"):
        load_photographs(tmp_path)


def test_detail_tells_a_flat_picture_from_a_busy_one(photographs):
    assert detail(np.full((400, 500, 3), 90, np.uint8)) == 0
    assert detail(photographs[0]) > 20
    assert min(shrink(photographs[0], SHORTER_SIDES[0]).shape[:2]) == SHORTER_SIDES[0]


def test_a_batch_holds_crops_or_whole_pictures_and_each_step_has_its_own(photographs, tmp_path):
    (tmp_path / "photographs").mkdir()
    for place, picture in enumerate(photographs):
        cv2.imwrite(str(tmp_path / "photographs" / f"{place}.jpg"), picture)
    batches = Batches(tmp_path, seed=0, count=8)
    assert batches((7, False)).shape == (8, 3, 96, 96)
    assert batches((7, True)).shape == (1, 3, PICTURE, PICTURE)
    np.testing.assert_array_equal(batches((5, False)), batches((5, False)))
    assert np.abs(batches((5, False)) - batches((6, False))).max() > 0.1
