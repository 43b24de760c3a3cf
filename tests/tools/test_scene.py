import cv2
import numpy as np
import pytest

from tools.mini_sd.backgrounds import HORIZON, canvas
from tools.mini_sd.scene import Camera, Pose, Scene, render, sample_scene
from tools.mini_sd.words import BACKGROUNDS, LIGHTS, MATERIALS, OBJECTS, STYLES, Words


def scene(**words: str) -> Scene:
    return Scene(Words(**({"object": "dog"} | words)), Pose(0.0, 0.3, 0.6))


def test_same_seed_gives_the_same_picture():
    first, second = (render(sample_scene(np.random.default_rng(7))).picture for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_picture_and_mask_are_shares():
    rendering = render(sample_scene(np.random.default_rng(1)))
    assert rendering.picture.shape == (128, 128, 3)
    assert rendering.picture.dtype == np.float32
    for image in (rendering.picture, rendering.mask, rendering.shadow):
        assert image.min() >= 0
        assert image.max() <= 1


@pytest.mark.parametrize("word", OBJECTS)
def test_every_object_stands_where_its_pose_says(word):
    rows, columns = np.nonzero(render(scene(object=word)).mask > 0.5)
    assert rows.max() == pytest.approx(64 + 0.3 * 128, abs=1.5)
    assert (columns.min() + columns.max()) / 2 == pytest.approx(63.5, abs=1.5)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == pytest.approx(0.6 * 128, abs=2)


@pytest.mark.parametrize(
    ("kind", "known"), [("material", MATERIALS), ("style", STYLES), ("background", BACKGROUNDS), ("light", LIGHTS)]
)
def test_every_word_changes_the_picture(kind, known):
    pictures = [render(scene(**{kind: word})).picture for word in known]
    for first in range(len(known)):
        for second in range(first):
            assert np.abs(pictures[first] - pictures[second]).max() > 0.1


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_the_ground_is_the_same_under_every_light(background):
    """Textures of the ground below the sky, without what is broad: a light may tint them and nothing else."""

    def texture(light):
        grey = canvas(background, light, "3d", 3).astype(np.float32).mean(axis=2)
        return (grey - cv2.GaussianBlur(grey, (0, 0), 6))[HORIZON + 12 :].ravel()

    by_day = texture("day")
    for light in LIGHTS:
        assert np.corrcoef(by_day, texture(light))[0, 1] > 0.9


def test_a_material_keeps_the_shape_and_the_background():
    plain, golden = render(scene()), render(scene(material="golden"))
    np.testing.assert_allclose(plain.mask, golden.mask, atol=1e-6)
    outside = plain.mask == 0
    np.testing.assert_array_equal(plain.picture[outside], golden.picture[outside])


def test_an_object_over_the_border_is_cut():
    whole = render(scene()).mask.sum()
    cut = render(Scene(Words("dog"), Pose(-0.45, 0.3, 0.6), Camera())).mask.sum()
    assert 0.2 * whole < cut < 0.8 * whole


def test_an_unknown_word_is_refused_with_what_is_known():
    with pytest.raises(ValueError, match="unknown object 'dinosaur'; known are: cat, dog"):
        Words("dinosaur")
