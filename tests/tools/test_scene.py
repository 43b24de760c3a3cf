import cv2
import numpy as np
import pytest

from tools.mini_sd.backgrounds import canvas
from tools.mini_sd.painting import GROUND_TINT, HORIZON
from tools.mini_sd.scene import PICTURE, Camera, Pose, Scene, render, sample_scene
from tools.mini_sd.sprites import SIZE, sprite
from tools.mini_sd.words import BACKGROUNDS, LABELS, LIGHTS, MATERIALS, OBJECTS, STYLES, Words


def scene(**words: str) -> Scene:
    return Scene(Words(**({"object": "dog"} | words)), Pose(0.0, 0.3, 0.6))


def test_same_seed_gives_the_same_picture():
    first, second = (render(sample_scene(np.random.default_rng(7))).picture for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_picture_and_mask_are_shares():
    rendering = render(sample_scene(np.random.default_rng(1)))
    assert rendering.picture.shape == (PICTURE, PICTURE, 3)
    assert rendering.picture.dtype == np.float32
    for image in (rendering.picture, rendering.mask, rendering.shadow):
        assert image.min() >= 0
        assert image.max() <= 1


@pytest.mark.parametrize("word", OBJECTS)
def test_every_object_stands_where_its_pose_says(word):
    rows, columns = np.nonzero(render(scene(object=word)).mask > 0.5)
    assert rows.max() == pytest.approx(0.8 * PICTURE, abs=2)
    assert (columns.min() + columns.max()) / 2 == pytest.approx(PICTURE / 2 - 0.5, abs=2)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == pytest.approx(0.6 * PICTURE, abs=4)


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
    """Below the sky a light tints what is there, and moves nothing."""

    def ground(light):
        return canvas(background, light, "3d", 5)[HORIZON + 12 :].astype(np.float32)

    by_day = ground("day")
    for light in LIGHTS:
        difference = np.abs(ground(light) - by_day * np.float32(GROUND_TINT[light]))[by_day.max(axis=2) < 255]
        assert np.percentile(difference, 99) < 6


def test_a_material_keeps_the_shape_and_the_background():
    plain, golden = render(scene()), render(scene(material="golden"))
    np.testing.assert_allclose(plain.mask, golden.mask, atol=1e-6)
    outside = plain.mask == 0
    np.testing.assert_array_equal(plain.picture[outside], golden.picture[outside])


def test_an_object_over_the_border_is_cut():
    whole = render(scene()).mask.sum()
    cut = render(Scene(Words("dog"), Pose(-0.45, 0.3, 0.6), Camera())).mask.sum()
    assert 0.2 * whole < cut < 0.8 * whole


@pytest.mark.parametrize("scale", [0.3, 0.6])
def test_an_object_that_faces_right_is_the_mirrored_one(scale):
    left, right = (render(Scene(Words("dog"), Pose(0.0, 0.3, scale, faces=way))).mask for way in ("left", "right"))
    np.testing.assert_allclose(right, left[:, ::-1], atol=1e-4)
    assert np.abs(right - left).max() > 0.5


def test_a_small_object_is_the_large_one_made_smaller():
    small, large = (render(Scene(Words("tiger"), Pose(0.0, 0.0, scale))).mask for scale in (0.2, 0.8))
    shrunk = cv2.resize(large, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    side, middle = len(shrunk), PICTURE // 2
    window = small[middle - side // 2 : middle + side // 2, middle - side // 2 : middle + side // 2]
    assert np.abs(window - shrunk).mean() < 0.02


def test_a_companion_stands_behind_the_object_and_leaves_its_mask():
    alone, together = (render(scene(companion=word)) for word in ("nobody", "cow"))
    np.testing.assert_array_equal(alone.mask, together.mask)
    covered = alone.mask == 1
    np.testing.assert_allclose(alone.picture[covered], together.picture[covered], atol=0.05)
    assert np.abs(alone.picture - together.picture).max() > 0.3


def test_without_a_shadow_the_ground_is_as_bright_as_without_the_object():
    def ground(shadow):
        rendering = render(Scene(Words("dog"), Pose(0.0, 0.2, 0.6), shadow=shadow))
        return rendering.picture[rendering.mask == 0].sum(), rendering.shadow.max()

    (lit, none), (shaded, dark) = ground(0.0), ground(0.5)
    assert none == 0
    assert dark == pytest.approx(0.5)
    assert shaded < lit


def test_variants_differ_in_more_than_noise():
    canvases = [canvas("grass", "day", "flat", variant).astype(np.float32) for variant in range(8)]
    for first in range(8):
        for second in range(first):
            assert np.abs(canvases[first] - canvases[second]).mean() > 4


def test_a_sticker_has_a_white_rim_and_a_cartoon_a_dark_line():
    """Along the border of the object, where it is hardly covered."""
    for style, brightest, darkest in (("sticker", 1.0, 0.9), ("cartoon", 0.4, 0.0)):
        picture = sprite("tiger", "plain", style)
        border = (picture[..., 3] > 0.3) & (picture[..., 3] < 0.7)
        lightness = (picture[..., :3].mean(axis=2) / np.maximum(picture[..., 3], 0.1))[border]
        assert darkest <= lightness.mean() <= brightest
    assert sprite("tiger", "plain", "sticker", halvings=2).shape == (SIZE // 4, SIZE // 4, 4)


def test_labels_name_what_a_picture_shows():
    drawn = [sample_scene(np.random.default_rng(seed)) for seed in range(20)]
    for one in drawn:
        shown = dict(zip(LABELS, one.labels, strict=True))
        assert OBJECTS[shown["object"]] == one.words.object
        assert LABELS["direction"][shown["direction"]] == one.pose.faces
    assert len({one.pose.faces for one in drawn}) == 2


def test_an_unknown_word_is_refused_with_what_is_known():
    with pytest.raises(ValueError, match="unknown object 'dinosaur'; known are: cat, dog"):
        Words("dinosaur")
