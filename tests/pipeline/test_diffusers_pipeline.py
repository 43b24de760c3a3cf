from typing import Any

import numpy as np
import pytest
import torch
from diffusers import EDMEulerScheduler, FlowMatchEulerDiscreteScheduler, LCMScheduler, ScoreSdeVeScheduler
from diffusers.callbacks import SDCFGCutoffCallback
from PIL import Image

import tokenflow
from tests.models.adapters.making import lora_weights
from tests.tiny import moving_square, tiny_pipeline, tiny_xl_pipeline
from tests.tiny_sana import tiny_sana_pipeline
from tokenflow.errors import Cancelled, ConfigError, ModelError, TokenflowError
from tokenflow.models.adapters.loras import lora_layers
from tokenflow.models.stable_diffusion import StableDiffusion
from tokenflow.pipeline import diffusers_pipeline
from tokenflow.pipeline.diffusers_pipeline import _as_array as as_array

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
    each = list(tensor)
    whole = torch.from_numpy(FRAMES).permute(0, 3, 1, 2)
    shapes = (FRAMES, list(FRAMES), FRAMES[None], images, [images], tensor, tensor[None], each, whole)
    for array in (as_array(frames) for frames in shapes):
        assert np.array_equal(np.rint(array * 255) if array.dtype != np.uint8 else array, FRAMES)
    for frames in (images, tensor):
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

    def watch(pipe: Any, index: int, time: torch.Tensor, values: dict[str, Any]) -> dict[str, Any]:
        assert isinstance(pipe, tokenflow.TokenFlowPipeline)
        assert pipe.num_timesteps == 2
        seen.append((index, time.item()))
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
    with pytest.raises(ConfigError, match=r"takes a loaded pipeline, got 'path'; load it with from_pretrained first"):
        tokenflow.TokenFlowPipeline.from_pipe("path")
    with pytest.raises(ModelError, match="which is not supported"):
        tokenflow.TokenFlowPipeline.from_pipe(tokenflow.TokenFlowPipeline.from_pipe(tiny_pipeline()))
    with pytest.raises(ConfigError, match=r"load a pipeline, and use from_pipe\(pipeline\)"):
        tokenflow.TokenFlowPipeline.from_pretrained("path")
    with pytest.raises(ConfigError, match="save the pipeline"):
        tokenflow.TokenFlowPipeline.from_pipe(tiny_pipeline()).save_pretrained("path")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": ["a", "b"]}, "prompt: expected one string"),
        ({"prompt": "(a:-1)"}, "expected 0 or more"),
        ({"guidance_scale": "much"}, "guidance_scale"),
        ({"strength": 0.5}, r"strength is not an argument .*; use mode=tokenflow.SDEdit"),
        ({"steps": 3}, "use num_inference_steps"),
        ({"eta": 1}, "eta is not an argument"),
        ({"mode": "sdedit"}, "mode is 'sdedit'; expected PnP"),
        ({"mode": tokenflow.Instruct()}, "instruct"),
        ({"mode": tokenflow.ControlNet(path="/nowhere")}, "/nowhere"),
        ({"seed": 1, "generator": torch.Generator()}, "both seed and generator"),
        ({"generator": [1]}, "generator: expected one"),
        ({"keyframe_interval": 99}, "the clip has 3 frames"),
        ({"frames": []}, "frames: expected a list of images"),
        ({"frames": [FRAMES, FRAMES]}, "frames: expected one clip"),
        ({"frames": [FRAMES[0], FRAMES[0, :8]]}, "frames: expected one clip of images of one size"),
    ],
)
def test_mistakes_are_told_before_the_inversion(
    options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def invert(*_: Any, **__: Any) -> None:
        raise AssertionError("the clip was inverted")

    monkeypatch.setattr(diffusers_pipeline, "invert", invert)
    editor = tokenflow.TokenFlowPipeline.from_pipe(tiny_pipeline())
    with pytest.raises(TokenflowError, match=message):
        editor(**{"frames": FRAMES, "prompt": "a tiger", **OPTIONS, **options})


def test_usual_values_of_diffusers_are_taken() -> None:
    editor = tokenflow.TokenFlowPipeline.from_pipe(tiny_pipeline())
    plain = editor(FRAMES, "a tiger", guidance_scale=1, seed=0, **OPTIONS).frames[0]
    options = {"negative_prompt": None, "guidance_scale": 0, "generator": [torch.Generator().manual_seed(0)]}
    usual = editor(FRAMES, ["a tiger"], **options, **OPTIONS).frames[0]
    assert all(np.array_equal(one, other) for one, other in zip(plain, usual, strict=True))


def test_it_follows_the_parts_of_its_pipeline_both_ways() -> None:
    pipeline = tiny_pipeline()
    editor = tokenflow.TokenFlowPipeline.from_pipe(pipeline)
    editor.scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
    assert isinstance(pipeline.scheduler, LCMScheduler)
    pipeline.unet = tiny_pipeline().unet
    assert editor.unet is pipeline.unet


@pytest.mark.parametrize("scheduler", [EDMEulerScheduler, FlowMatchEulerDiscreteScheduler, ScoreSdeVeScheduler])
def test_a_scheduler_of_other_noise_levels_is_refused(scheduler: Any) -> None:
    pipeline = tiny_pipeline()
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)
    with pytest.raises(ModelError, match=rf"the model's scheduler is a {scheduler.__name__} whose noise levels"):
        edited(pipeline)


def test_the_pipeline_stays_as_it_was_also_after_an_error() -> None:
    pipeline = tiny_pipeline()
    plain = edited(pipeline)
    weights = lora_weights(tiny_pipeline(), "unet")
    pipeline.load_lora_weights({f"unet.{name}": weight for name, weight in weights.items()})
    pipeline.unet.requires_grad_(True)

    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    for is_on in (True, False):
        (pipeline.enable_lora if is_on else pipeline.disable_lora)()
        with pytest.raises(KeyboardInterrupt):
            edited(pipeline, callback_on_step_end=stop)
        with pytest.raises(KeyboardInterrupt):
            edited(pipeline, cancel=stop)
        assert all(layer.disable_adapters is not is_on for layer in lora_layers(pipeline.unet))
    assert pipeline.unet.conv_in.weight.requires_grad
    assert np.array_equal(edited(pipeline), plain)  # LoRAs that are off do not act
    assert all(layer.disable_adapters for layer in lora_layers(pipeline.unet))


def test_an_interrupt_stops_the_call() -> None:
    seen: list[int] = []

    def interrupt(pipe: Any, index: int, _time: Any, values: dict[str, Any]) -> dict[str, Any]:
        seen.append(index)
        pipe._interrupt = True
        return values

    with pytest.raises(Cancelled):
        edited(tiny_pipeline(), callback_on_step_end=interrupt)
    assert seen == [0]


def test_callbacks_that_cannot_work_are_told() -> None:
    with pytest.raises(ConfigError, match=r"has 'prompt_embeds'; expected latents"):
        edited(tiny_pipeline(), callback_on_step_end=SDCFGCutoffCallback(cutoff_step_ratio=0.5))
    with pytest.raises(ConfigError, match=r"expected latents of shape \(3, 4, 8, 12\), got \(1, 4, 8, 12\)"):
        edited(tiny_pipeline(), callback_on_step_end=lambda *given: {"latents": given[3]["latents"][[0]]})
