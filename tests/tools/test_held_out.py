import numpy as np
import pytest

from tools.mini_sd import backgrounds
from tools.mini_sd.clip import Clip, Motion, warp
from tools.mini_sd.held_out import GROUNDS, KIT, canvas, sample_held_out_scene
from tools.mini_sd.scene import Pose, Scene, render
from tools.mini_sd.sprites import HELD_OUT, sprite
from tools.mini_sd.words import HELD_OUT_OBJECTS, LIGHTS, STYLES, Words


@pytest.mark.parametrize("word", HELD_OUT_OBJECTS)
def test_its_sprites_are_of_another_hand(word):
    for style in STYLES:
        assert np.abs(sprite(word, "plain", HELD_OUT) - sprite(word, "plain", style)).mean() > 0.02


@pytest.mark.parametrize("background", GROUNDS)
def test_its_backgrounds_are_not_those_of_training(background):
    for light in LIGHTS:
        ours, trained = (draw(background, light, "flat", 1).astype(float) for draw in (canvas, backgrounds.canvas))
        assert ours.shape == trained.shape
        assert np.abs(ours - trained).mean() > 8


def test_the_same_seed_gives_the_same_picture():
    first, second = (render(sample_held_out_scene(np.random.default_rng(7)), KIT).picture for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_it_draws_what_the_scene_says():
    rng = np.random.default_rng(1)
    scenes = [sample_held_out_scene(rng) for _ in range(60)]
    assert {scene.words.background for scene in scenes} == set(GROUNDS)
    assert {scene.pose.faces for scene in scenes} == {"left", "right"}
    for scene in scenes[:12]:
        rendering = render(scene, KIT)
        assert rendering.picture.min() >= 0
        assert rendering.picture.max() <= 1
        assert rendering.mask.mean() > 0.005


def test_its_clips_have_exact_flow_too():
    clip = Clip(Scene(Words("dog"), Pose(0.1, 0.3, 0.6), variant=3), Motion((-0.3, 0.0), bob=0.03), 12, KIT)
    here, there = clip.render(2).picture, clip.render(5).picture
    visible = ~clip.occluded(2, 5)
    assert visible.mean() > 0.5
    assert np.abs(warp(there, clip.flow(2, 5)) - here)[visible].mean() < 0.01
