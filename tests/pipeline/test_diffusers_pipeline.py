from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tokenflow
from tests.models.adapters.making import lora_weights
from tests.tiny import moving_square, tiny_pipeline, tiny_xl_pipeline
from tests.tiny_sana import tiny_sana_pipeline
from tokenflow.errors import ConfigError, ModelError
from tokenflow.models.stable_diffusion import StableDiffusion

FRAMES = moving_square(3)
OPTIONS: dict[str, Any] = {"source_prompt": "a dog", "num_inference_steps": 2, "height": 16, "width": 24}


def edited(pipeline: Any, frames: Any = FRAMES, **options: Any) -> Any:
    editor = tokenflow.TokenFlowPipeline.from_pipe(pipeline)
    return editor(frames, "a golden tiger", **{**OPTIONS, "output_type": "np", **options}).frames[0]


def test_it_is_invert_and_edit() -> None:
    pipeline = tiny_pipeline()
    inverted = tokenflow.invert(tokenflow.Video(FRAMES, rate=1), StableDiffusion(pipeline), "a dog", size=16, steps=2)
    expected = tokenflow.edit(inverted, "a golden tiger", seed=5).frames
    images = [Image.fromarray(frame) for frame in FRAMES]
    tensor = torch.from_numpy(FRAMES).permute(0, 3, 1, 2) / 255
    for frames in (FRAMES, images, tensor):
        made = edited(pipeline, frames, generator=torch.Generator().manual_seed(5), output_type="pil")
        assert np.array_equal(np.stack([np.asarray(image) for image in made]), expected)


@pytest.mark.parametrize("make", [tiny_xl_pipeline, tiny_sana_pipeline])
def test_every_family_has_the_door(make: Any) -> None:
    options = {"height": None, "width": None} if make is tiny_sana_pipeline else {}
    made = edited(make(), **options, output_type="pt")
    assert made.shape == (3, 3, *FRAMES.shape[1:3])
    assert 0 <= made.min() < made.max() <= 1


def test_it_is_a_diffusion_pipeline_with_the_same_parts() -> None:
    pipeline = tiny_pipeline()
    editor = tokenflow.TokenFlowPipeline.from_pipe(pipeline)
    assert editor.unet is pipeline.unet
    assert editor.components == pipeline.components
    assert editor.to("cpu").device == torch.device("cpu")
    (frames,) = editor(FRAMES, "a tiger", **OPTIONS, return_dict=False)
    assert isinstance(frames[0][0], Image.Image)


def test_the_callback_sees_each_step_and_may_change_its_latents() -> None:
    seen: list[tuple[int, float]] = []

    def watch(pipe: Any, index: int, time: float, values: dict[str, Any]) -> dict[str, Any]:
        assert isinstance(pipe, tokenflow.TokenFlowPipeline)
        seen.append((index, time))
        return values

    plain = edited(tiny_pipeline())
    assert np.array_equal(edited(tiny_pipeline(), callback_on_step_end=watch), plain)
    assert [index for index, _ in seen] == [0, 1]
    assert seen[0][1] > seen[1][1] > 0

    def clear(_pipe: Any, _index: int, _time: float, values: dict[str, Any]) -> dict[str, Any]:
        return {"latents": torch.zeros_like(values["latents"])}

    cleared = edited(tiny_pipeline(), callback_on_step_end=clear)
    decoded = StableDiffusion(tiny_pipeline()).decode(torch.zeros(1, 4, 8, 12))[0].permute(1, 2, 0).numpy()
    assert np.abs(cleared - decoded).max() < 0.01


def test_loras_of_the_pipeline_act_on_the_edit_and_not_on_the_inversion() -> None:
    weights = lora_weights(tiny_pipeline(), "unet")
    pipeline = tiny_pipeline()
    pipeline.load_lora_weights({f"unet.{name}": weight for name, weight in weights.items()})
    made = edited(pipeline)
    plain = StableDiffusion(tiny_pipeline())
    assert np.abs(made - edited(tiny_pipeline())).max() > 0.01
    again = tokenflow.TokenFlowPipeline.from_pipe(pipeline)._model()
    base = again.base.predict(torch.ones(1, 4, 8, 8), again.schedule.steps(2)[0].at, again.base.condition("a dog"))
    own = plain.predict(torch.ones(1, 4, 8, 8), again.schedule.steps(2)[0].at, plain.condition("a dog"))
    assert torch.equal(base, own)


def test_wrong_arguments_are_told() -> None:
    with pytest.raises(ConfigError, match=r"output_type is 'jpg'; expected one of pil, np, pt"):
        edited(tiny_pipeline(), output_type="jpg")
    with pytest.raises(ConfigError, match="has 'noise'; expected latents"):
        edited(tiny_pipeline(), callback_on_step_end_tensor_inputs=["noise"])
    with pytest.raises(ConfigError, match="one of height and width is missing"):
        edited(tiny_pipeline(), height=None)
    with pytest.raises(ModelError, match="which is not supported"):
        tokenflow.TokenFlowPipeline.from_pipe(object())
