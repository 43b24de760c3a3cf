import numpy as np
import torch

from tokenflow.diffusion.levels import Level
from tokenflow.regions.region import on_latents

LEFT, MIDDLE = np.zeros((2, 8, 8), np.float32)
LEFT[:, :4] = 1
MIDDLE[:, 2:6] = 1


def test_latents_outside_are_the_sources_and_inside_the_edits() -> None:
    regions = on_latents([[LEFT], [MIDDLE]], [0], (4, 4))
    source = torch.zeros(2, 3, 4, 4)
    level = Level(1.0, 0.0, 0.0)
    composed = regions.composed(lambda asked: source if asked == level else source + 9)(
        [1], torch.ones(1, 3, 4, 4), level
    )
    assert composed[0, 0, 0].tolist() == [0, 1, 1, 0]


def test_the_shares_of_prompts_add_up_to_one_and_a_later_region_covers_an_earlier_one() -> None:
    regions = on_latents([[LEFT, MIDDLE]], [1, 2], (4, 4))
    assert regions.shares.shape == (3, 1, 1, 4, 4)
    assert regions.shares_of([0])[:, 0, 0, 0].tolist() == [[0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 1, 0]]
    torch.testing.assert_close(regions.shares.sum(0), torch.ones(1, 1, 4, 4))


def test_regions_without_a_prompt_of_their_own_share_the_edits() -> None:
    regions = on_latents([[LEFT, MIDDLE]], [0, 0], (4, 4))
    assert torch.equal(regions.shares, torch.ones(1, 1, 1, 4, 4))
