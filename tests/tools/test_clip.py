from dataclasses import replace

import numpy as np
import pytest

from tools.mini_sd.build_clips import CLIPS
from tools.mini_sd.clip import Clip, Motion, sample_motion, warp
from tools.mini_sd.scene import PICTURE, Camera, Pose, Scene, sample_scene
from tools.mini_sd.words import Words


def random_clip(seed: int) -> Clip:
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng)
    return Clip(scene, sample_motion(rng, scene.pose.faces), frames=16)


TO_THE_RIGHT = Clip(
    Scene(
        Words("horse", companion="cow"), Pose(-0.2, 0.3, 0.5, faces="right"), variant=4, companion=Pose(0.1, 0.2, 0.4)
    ),
    Motion(travel=(0.3, 0.0), swing=0.03, pan=(0.1, 0.0)),
    frames=16,
)


MIRRORED = replace(CLIPS["car_drive"], mirrored=True)


@pytest.mark.parametrize("clip", [*CLIPS.values(), MIRRORED, TO_THE_RIGHT, *map(random_clip, range(6))])
@pytest.mark.parametrize(("source", "target"), [(0, 1), (1, 0), (3, 11)])
def test_flow_finds_what_is_not_occluded(clip, source, target):
    here, there = clip.render(source).picture, clip.render(target).picture
    error = np.abs(warp(there, clip.flow(source, target)) - here).max(axis=2)
    visible = ~clip.occluded(source, target)
    assert visible.mean() > 0.3
    # What is left is interpolation: textures are looked up between pixels, and the lens blurs after the move.
    assert error[visible].mean() < 0.01
    assert np.percentile(error[visible], 99) < 0.1


def test_a_mirrored_clip_is_the_clip_with_left_and_right_in_each_others_place():
    np.testing.assert_array_equal(MIRRORED.pictures(), CLIPS["car_drive"].pictures()[:, :, ::-1])
    edit = MIRRORED.with_words(object="bus")
    np.testing.assert_array_equal(edit.masks(), CLIPS["car_drive"].with_words(object="bus").masks()[:, :, ::-1])
    assert MIRRORED.flow(0, 6)[..., 0].mean() == pytest.approx(-CLIPS["car_drive"].flow(0, 6)[..., 0].mean())


def test_flow_of_a_frame_to_itself_is_nothing():
    clip = CLIPS["car_drive"]
    np.testing.assert_allclose(clip.flow(4, 4), 0, atol=1e-4)


def test_flow_of_a_pan_is_the_pan():
    still_dog = Scene(Words("dog"), Pose(5.0, 0.3, 0.5), Camera())  # far outside the picture
    clip = Clip(still_dog, Motion(pan=(0.25, 0.0)), frames=8)
    np.testing.assert_allclose(clip.flow(0, 1)[..., 0], -PICTURE * 0.25 / 8, atol=1e-3)
    np.testing.assert_allclose(clip.flow(0, 1)[..., 1], 0, atol=1e-3)


def test_forward_and_backward_flow_are_inverse_where_visible():
    clip = CLIPS["cat_walk"]
    forward, backward = clip.flow(2, 6), clip.flow(6, 2)
    visible = ~clip.occluded(2, 6)
    assert np.abs(forward + warp(backward, forward))[visible].max() < 0.05


def test_what_the_object_uncovers_is_occluded():
    clip = Clip(Scene(Words("dog"), Pose(0.0, 0.3, 0.5)), Motion(travel=(-0.4, 0.0)), frames=2)
    newly_seen = (clip.render(0).mask > 0.9) & (clip.render(1).mask < 0.01)
    assert newly_seen.any()
    assert clip.occluded(1, 0)[newly_seen].all()


def test_the_same_words_render_the_same_clip():
    clip = random_clip(3)
    words = clip.start.words
    again = clip.with_words(object=words.object, material=words.material, background=words.background)
    np.testing.assert_array_equal(clip.pictures(), again.pictures())


def test_a_perfect_edit_of_the_object_keeps_what_is_around_it():
    clip = CLIPS["dog_walk"]
    edit = clip.with_words(object="tiger")
    for frame in (0, 12, 23):
        before, after = clip.render(frame), edit.render(frame)
        around = (before.mask == 0) & (after.mask == 0) & (before.shadow == 0) & (after.shadow == 0)
        # The lens spreads the edge of a shadow by a pixel.
        np.testing.assert_allclose(before.picture[around], after.picture[around], atol=2e-3)


def test_a_walk_goes_to_where_the_object_faces():
    rng = np.random.default_rng(0)
    assert all(sample_motion(rng, "right").travel[0] > 0 > sample_motion(rng, "left").travel[0] for _ in range(20))


def test_masks_follow_the_motion():
    masks = CLIPS["dog_walk"].masks()
    middles = [np.nonzero(mask > 0.5)[1].mean() for mask in masks]
    assert np.all(np.diff(middles) < 0)
