from dataclasses import replace

import pytest
import torch

from tokenflow.diffusion.conditioning import Conditioning, stack
from tokenflow.diffusion.guidance import SCALE, Guidance, embedded


def prompt(value: float) -> Conditioning:
    return Conditioning(torch.full((1, 5, 6), value), {"pooled": torch.full((1, 3), value)})


@pytest.mark.parametrize("scale", [1.5, 4.0, 7.5])
def test_guidance_scales_what_the_prompt_adds_to_the_unconditional_prediction(scale: float) -> None:
    """Ho & Salimans, 2022: p = p_uncond + scale · (p_cond − p_uncond)."""
    unconditional, conditional = torch.rand(2, 3, 4, 8, 8)
    guided = Guidance(prompt(1.0), prompt(0.0), scale)
    assert torch.equal(guided.branches.tokens[:, 0, 0], torch.tensor([0.0, 1.0]))  # the prompt's branch is the last
    combined = guided.combine(*guided.split(torch.stack([unconditional, conditional])))
    torch.testing.assert_close(combined, unconditional + scale * (conditional - unconditional), rtol=0, atol=1e-5)


@pytest.mark.parametrize("guided", [Guidance(prompt(1.0), prompt(0.0), 1.0), Guidance(prompt(1.0), None, 4.0)])
def test_at_scale_1_and_without_a_second_branch_the_prediction_is_the_prompts_own(guided: Guidance) -> None:
    assert guided.branches.branches == 1
    prediction = torch.rand(1, 3, 4, 8, 8)
    assert torch.equal(guided.combine(*guided.split(prediction)), prediction[0])


def test_branches_are_repeated_for_every_frame_in_order() -> None:
    repeated = stack([prompt(0.0), prompt(1.0)]).for_frames(3)
    assert repeated.tokens[:, 0, 0].tolist() == [0, 0, 0, 1, 1, 1]
    assert repeated.added["pooled"][:, 0].tolist() == [0, 0, 0, 1, 1, 1]


def test_a_scale_that_is_embedded_is_added_for_every_branch() -> None:
    told = embedded(Conditioning(torch.zeros(2, 3, 4), {"mask": torch.ones(2, 3)}), 4.5)
    assert told.added[SCALE].tolist() == [4.5, 4.5]
    assert set(told.added) == {"mask", SCALE}


def test_another_prompt_keeps_the_negative_one_and_the_scale() -> None:
    prompts = [Conditioning(torch.full((1, 2, 3), float(value))) for value in range(3)]
    other = Guidance(prompts[0], prompts[1], 3.0).with_prompts(prompts[2])
    assert other.branches.tokens[:, 0, 0].tolist() == [1.0, 2.0]
    assert other.combine(torch.ones(1), torch.ones(1)).item() == 3.0


def test_another_prompt_brings_its_own_references_and_no_others() -> None:
    seen = object()
    shown = Guidance(prompt(1.0), prompt(0.0), 3.0).showing(seen)
    assert shown.branches.references is seen
    assert shown.with_prompts(prompt(2.0)).branches.references is None
    assert shown.with_prompts(replace(prompt(2.0), references=seen)).branches.references is seen


def test_prompts_with_different_references_are_not_stacked() -> None:
    with pytest.raises(ValueError, match=r"expected prompts with the same references"):
        stack([replace(prompt(0.0), references=object()), prompt(1.0)])
