"""Regions that the model finds, on the tiny model: where, not how well, which the trained one shows."""

import numpy as np
import pytest
import torch

from tests.modes.conftest import FRAMES
from tokenflow.correspondence.flow import FlowCorrespondence
from tokenflow.diffusion.conditioning import stack
from tokenflow.modes.source import InvertedClip
from tokenflow.regions.by_text import (
    Found,
    as_masks,
    attention_change,
    carried,
    contrast,
    find_by_text,
    prediction_change,
)


def flow(source: InvertedClip) -> FlowCorrespondence:
    return FlowCorrespondence(source.frames, 8, 12)


def test_the_same_text_changes_nothing_and_another_one_something(source: InvertedClip) -> None:
    steps = source.model.schedule.steps(25)
    other = source.model.condition("a cat on grass")
    for change in (attention_change, prediction_change):
        assert not change(source, steps, source.conditioning, [0, 1]).any()
        assert change(source, steps, other, [0, 1]).mean() > 0


def test_a_change_of_prediction_is_what_two_calls_differ_by(source: InvertedClip) -> None:
    steps = source.model.schedule.steps(25)
    other = source.model.condition("a cat on grass")
    maps = prediction_change(source, steps, other, [2])
    level = steps[round((1 - 0.6) * 24)].at
    own, others = source.model.predict(source.latents(level, [2]), level, stack([source.conditioning, other]))
    torch.testing.assert_close(maps[0], (others - own).square().mean(1).sqrt())


def test_contrast_puts_outside_at_zero_and_inside_at_one() -> None:
    maps = torch.full((2, 8, 8), 0.2)
    maps[:, 2:5, 2:5] = 0.8
    scaled = contrast(maps)
    torch.testing.assert_close(scaled[0, 3, 3], torch.tensor(1.0))
    torch.testing.assert_close(scaled[0, 0, 0], torch.tensor(0.0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_a_flat_map_has_no_inside(value: float) -> None:
    assert not contrast(torch.full((1, 4, 4), value)).any()


def test_keyframes_keep_their_maps_and_others_get_them_where_things_moved_to(source: InvertedClip) -> None:
    maps = torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    all_maps = carried(maps, [0, 4], [range(FRAMES)], flow(source), 2)
    assert torch.equal(all_maps[[0, 4]], maps)
    assert len(all_maps) == FRAMES
    still = carried(torch.ones(2, 1, 8, 12), [0, 4], [range(FRAMES)], flow(source), 2)
    torch.testing.assert_close(still, torch.ones(FRAMES, 1, 8, 12))


def test_maps_stay_within_their_shot(source: InvertedClip) -> None:
    maps = torch.stack([torch.zeros(1, 8, 12), torch.ones(1, 8, 12)])
    within = carried(maps, [0, 4], [range(2), range(2, FRAMES)], flow(source), 2)  # f 1 8 12
    assert not within[:2].any()
    torch.testing.assert_close(within[2:], torch.ones(FRAMES - 2, 1, 8, 12), rtol=0, atol=1e-5)


def test_a_found_region_has_a_mask_of_the_working_size_per_frame(source: InvertedClip) -> None:
    steps = source.model.schedule.steps(25)
    other = source.model.condition("a cat on grass")
    found = find_by_text(source, steps, [other], flow(source), [0, 4], 2, with_predictions=True)
    assert found.masks.shape == (FRAMES, 16, 24)
    assert set(np.unique(found.masks)) <= {0, 255}
    assert 0 <= found.share <= 1
    assert 0 <= found.border_share <= 1


def test_of_several_texts_all_that_any_would_change_is_found(source: InvertedClip) -> None:
    steps = source.model.schedule.steps(25)
    texts = [source.model.condition(prompt) for prompt in ("a cat on grass", "a dog on sand")]
    one, other, both = (
        find_by_text(source, steps, chosen, flow(source), [0, 4], 2, with_predictions=False).share
        for chosen in (texts[:1], texts[1:], texts)
    )
    assert both >= max(one, other) > 0


@pytest.mark.parametrize(
    ("share", "border_share", "everywhere"), [(0.4, 0.1, False), (0.4, 0.5, True), (0.8, 0.2, True)]
)
def test_a_change_of_most_of_the_frame_or_of_its_border_is_one_of_everything(
    share: float, border_share: float, everywhere: bool
) -> None:
    assert Found(np.zeros((1, 2, 2), np.uint8), share, border_share).everywhere == everywhere


def test_masks_are_without_specks_and_pinholes() -> None:
    maps = torch.zeros(1, 32, 32)
    maps[:, 8:24, 8:24] = 1
    maps[:, 16, 16] = 0
    maps[:, 2, 2] = 1
    (mask,) = as_masks(maps, (64, 64), 0.5)
    assert np.array_equal(np.argwhere(mask)[[0, -1]], [[16, 16], [47, 47]])
    assert mask[16:48, 16:48].all()
