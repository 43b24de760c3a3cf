"""Sana beside diffusers' pipelines, and what it promises as a `Model`."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import SanaControlNetModel, SanaControlNetPipeline, SanaPipeline

from tests.tiny_sana import (
    SIZES,
    WORDS,
    save_tiny_sana_controlnet,
    tiny_sana,
    tiny_sana_pipeline,
    tiny_sprint_pipeline,
)
from tokenflow.diffusion.conditioning import stack
from tokenflow.diffusion.guidance import Guidance, embedded
from tokenflow.diffusion.latents import Latents
from tokenflow.diffusion.sampling import Renoise, sample
from tokenflow.diffusion.schedules import Step
from tokenflow.errors import ModelError, ModelNotFoundError, TokenflowWarning
from tokenflow.models.injection import ATTENTION, BLOCK, RESIDUAL, Injection
from tokenflow.models.sana import INSTRUCTION, Sana

LATENTS = torch.randn(3, 4, 8, 12, generator=torch.Generator().manual_seed(0))
OTHERS = torch.randn(3, 4, 8, 12, generator=torch.Generator().manual_seed(1))

WIDE = torch.randn(3, 4, 16, 32, generator=torch.Generator().manual_seed(2))
"""The pipelines take multiples of 32 pixels only."""

FORM = {"height": 32, "width": 64, "use_resolution_binning": False, "output_type": "latent"}


def level(model: Sana) -> Any:
    return model.schedule.steps(3)[1].at


def sampled(
    model: Sana, guidance: Guidance, steps: int, start: torch.Tensor, renoise: Renoise | None = None
) -> torch.Tensor:
    """Latents of all frames, sampled by this project."""

    def predict(latents: Latents, step: Step) -> Any:
        indices = list(range(len(latents)))
        branches = model.predict(latents[indices], step.at, guidance.branches)
        yield indices, guidance.combine(*guidance.split(branches))

    *_, latents = sample(start, model.schedule.steps(steps), predict, model.schedule.parametrisation, renoise=renoise)
    return latents


@pytest.mark.parametrize("instruction", [INSTRUCTION, None])
def test_it_samples_what_sanas_pipeline_samples_from_the_same_noise(instruction: list[str] | None) -> None:
    pipeline = tiny_sana_pipeline()
    model = Sana(pipeline, None if instruction else WORDS)
    pipeline.set_progress_bar_config(disable=True)
    length = model._max_tokens
    expected = pipeline(
        ["A dog "] * 3,
        negative_prompt="grass",
        num_inference_steps=5,
        guidance_scale=4.5,
        latents=WIDE,
        max_sequence_length=length,
        complex_human_instruction=instruction,
        **FORM,
    ).images
    guidance = Guidance(model.condition("A dog "), model.condition("grass", negative=True), 4.5)
    torch.testing.assert_close(sampled(model, guidance, 5, WIDE), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_it_samples_what_sprints_pipeline_samples_from_the_same_noise(steps: int) -> None:
    pipeline = tiny_sprint_pipeline()
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        ["a dog"] * 3,
        num_inference_steps=steps,
        intermediate_timesteps=1.3 if steps == 2 else None,
        guidance_scale=3.0,
        latents=WIDE,
        generator=torch.Generator().manual_seed(7),
        max_sequence_length=32,
        complex_human_instruction=None,
        **FORM,
    ).images
    drawn = torch.Generator().manual_seed(7)
    noises = [torch.randn(WIDE.shape, generator=drawn) for _ in range(steps)]
    model = Sana(pipeline, WORDS)
    assert model.guidance == "embedded"
    guidance = Guidance(embedded(model.condition("a dog"), 3.0), None, 3.0)
    result = sampled(model, guidance, steps, WIDE, lambda indices, step: noises[step.index][indices])
    # Their first angle lies 4e-6 beyond pure noise, which is where our levels end.
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)


def test_sprint_is_told_its_guidance_and_the_default_of_its_pipeline_if_nobody_says() -> None:
    model = Sana(tiny_sprint_pipeline(), WORDS)
    prompt = model.condition("a dog")
    plain, told, other = (
        model.predict(LATENTS, level(model), each) for each in (prompt, *(embedded(prompt, g) for g in (4.5, 2.0)))
    )
    assert torch.equal(plain, told)
    assert not torch.equal(plain, other)


def test_the_long_instruction_stands_before_every_prompt_but_negative_ones() -> None:
    model = Sana(tiny_sana_pipeline())
    plain, negative = model.condition("a dog"), model.condition("a dog", negative=True)
    assert plain.tokens.shape == negative.tokens.shape
    assert not torch.equal(plain.tokens, negative.tokens)
    closed = Sana(tiny_sana_pipeline(), WORDS)  # which does not know the instruction's words
    assert torch.equal(closed.condition("a dog").tokens, closed.condition("a dog", negative=True).tokens)


def test_padding_behind_a_prompt_is_masked() -> None:
    model = tiny_sana()
    prompt = model.condition("a dog")
    plain = model.predict(LATENTS, level(model), prompt)
    prompt.tokens[:, int(prompt.added["mask"].sum()) :] += 1
    assert torch.equal(model.predict(LATENTS, level(model), prompt), plain)
    prompt.tokens[:, 0] += 1
    assert not torch.equal(model.predict(LATENTS, level(model), prompt), plain)


def test_a_prompt_that_is_too_long_gives_a_notice_that_names_what_is_ignored() -> None:
    with pytest.warns(TokenflowWarning, match=r"longer than the 32 tokens .* ignores .*zebra"):
        Sana(tiny_sana_pipeline()).condition("a dog on grass and some more words and a zebra")


def test_a_word_that_the_model_has_never_seen_gives_a_notice() -> None:
    with pytest.warns(TokenflowWarning, match="never seen 'zebra'"):
        tiny_sana().condition("a zebra")


def test_encode_and_decode_are_the_autoencoders_scaled() -> None:
    pipeline = tiny_sana_pipeline()
    model = Sana(pipeline)
    frames = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        latents = pipeline.vae.encode(frames * 2 - 1).latent
        images = pipeline.vae.decode(latents).sample
    torch.testing.assert_close(model.encode(frames), latents * 0.5)
    torch.testing.assert_close(model.decode(latents * 0.5), (images / 2 + 0.5).clamp(0, 1))


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ModelError, match=r"the VAE produced NaN or inf in torch.float32.*set model.dtype"):
        tiny_sana().decode(torch.full((1, 4, 8, 8), torch.nan))


def test_sizes_follow_the_autoencoder_and_the_transformer() -> None:
    model = tiny_sana()
    assert (model.pixels_per_latent, model.latent_channels, model.size_multiple, model.native_size) == (2, 4, 2, 16)


def test_text_encoder_and_autoencoder_never_work_in_float16() -> None:
    pipeline = tiny_sana_pipeline().to(torch.float16)
    model = Sana(pipeline)
    assert pipeline.transformer.dtype == torch.float16
    assert (pipeline.vae.dtype, pipeline.text_encoder.dtype) == (torch.bfloat16, torch.bfloat16)
    assert model.predict(LATENTS, level(model), model.condition("a dog", negative=True)).isfinite().all()


def test_each_branch_is_what_it_would_be_alone() -> None:
    model = tiny_sana()
    dog, tiger = model.condition("a dog"), model.condition("a tiger")
    both = model.predict(LATENTS, level(model), stack([dog, tiger]))
    torch.testing.assert_close(both[0], model.predict(LATENTS, level(model), dog)[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(both[1], model.predict(LATENTS, level(model), tiger)[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("features", [BLOCK, RESIDUAL])
@pytest.mark.parametrize("layers", [1, 2, 4])
def test_capturing_features_and_injecting_them_into_the_same_latents_changes_nothing(
    features: str, layers: int
) -> None:
    model = tiny_sana(layers)
    prompt = model.condition("a dog")
    read = model.capture(LATENTS, level(model), prompt, {ATTENTION, features})
    assert read.features[features].shape == (3, 16, 8, 12)
    plain = model.predict(LATENTS, level(model), prompt)
    injected = model.predict(LATENTS, level(model), prompt, inject=read)
    torch.testing.assert_close(injected, plain, rtol=0, atol=1e-6)


@pytest.mark.parametrize("point", [ATTENTION, RESIDUAL, BLOCK])
def test_injecting_another_images_features_changes_the_prediction(point: str) -> None:
    model = tiny_sana()
    prompt = model.condition("a dog")
    read = model.capture(OTHERS, level(model), prompt, {point})
    plain = model.predict(LATENTS, level(model), prompt)
    assert (model.predict(LATENTS, level(model), prompt, inject=read) - plain).abs().max() > 1e-4


def test_an_injected_block_overrides_what_comes_before_it_which_is_not_computed() -> None:
    model = tiny_sana()
    prompt = model.condition("a dog")
    read = model.capture(OTHERS, level(model), prompt, {BLOCK})
    ran: list[int] = []
    for index, block in enumerate(model._transformer.transformer_blocks):
        block.ff.register_forward_hook(lambda *_, index=index: ran.append(index))
    injected = [model.predict(each, level(model), prompt, inject=read) for each in (LATENTS, OTHERS)]
    assert torch.equal(*injected)
    assert ran == [2, 3, 2, 3]


def test_an_injected_residual_is_added_to_the_calls_own_tokens() -> None:
    model = tiny_sana()
    prompt = model.condition("a dog")
    read = model.capture(OTHERS, level(model), prompt, {RESIDUAL})
    assert not torch.equal(*[model.predict(each, level(model), prompt, inject=read) for each in (LATENTS, OTHERS)])


def test_capture_returns_every_wanted_point_and_refuses_unknown_ones() -> None:
    model = tiny_sana()
    prompt = model.condition("a dog")
    both = model.capture(LATENTS, level(model), prompt, {ATTENTION, BLOCK, RESIDUAL})
    assert set(both.queries_keys) == {"transformer_blocks.2.attn1", "transformer_blocks.3.attn1"}
    for point in (BLOCK, RESIDUAL):
        alone = model.capture(LATENTS, level(model), prompt, {point}).features
        assert torch.equal(both.features[point], alone[point])
    with pytest.raises(ValueError, match=r"expected injection points among .*got nonsense"):
        model.capture(LATENTS, level(model), prompt, {"nonsense"})


@pytest.mark.parametrize(("wanted", "last"), [({RESIDUAL}, 1), ({BLOCK, RESIDUAL}, 1), ({ATTENTION, BLOCK}, 2)])
def test_capturing_stops_behind_the_last_feature_that_is_wanted(wanted: set[str], last: int) -> None:
    model = tiny_sana()
    ran: list[int] = []
    for index, block in enumerate(model._transformer.transformer_blocks):
        block.ff.register_forward_hook(lambda *_, index=index: ran.append(index))
    model.capture(LATENTS, level(model), model.condition("a dog"), wanted)
    assert max(ran) == last


def test_features_lie_on_the_token_grid() -> None:
    model = tiny_sana()
    features = model.features(LATENTS, level(model), model.condition("a dog"))
    assert features.shape == (3, 16, 8, 12)
    assert (features[0] - features[1]).abs().max() > 1e-3


def test_another_text_changes_attention_to_text_and_the_same_text_does_not() -> None:
    model = tiny_sana()
    prompt, other = model.condition("a dog"), model.condition("a tiger")
    same = model.text_change(LATENTS, level(model), prompt, prompt)
    assert same.shape == (3, 8, 12)
    assert same.max() < 1e-5
    assert model.text_change(LATENTS, level(model), prompt, other).min() > 1e-4
    other.tokens[:, int(other.added["mask"].sum()) :] += 1  # what is masked does not count
    torch.testing.assert_close(
        model.text_change(LATENTS, level(model), prompt, other),
        model.text_change(LATENTS, level(model), prompt, model.condition("a tiger")),
    )


def test_a_controlnet_acts_as_in_sanas_controlnet_pipeline(tmp_path: Path) -> None:
    plain = tiny_sana_pipeline()
    controlnet = SanaControlNetModel.from_pretrained(save_tiny_sana_controlnet(tmp_path))
    parts = {name: part for name, part in plain.components.items() if name != "scheduler"}
    pipeline = SanaControlNetPipeline(controlnet=controlnet, scheduler=plain.scheduler, **parts)
    pipeline.set_progress_bar_config(disable=True)
    edges = torch.rand(1, 3, 32, 64, generator=torch.Generator().manual_seed(3)).round()
    expected = pipeline(
        "a dog",
        negative_prompt="grass",
        control_image=edges * 2 - 1,
        controlnet_conditioning_scale=0.7,
        num_inference_steps=3,
        latents=WIDE[:1],
        max_sequence_length=32,
        complex_human_instruction=None,
        **FORM,
    ).images
    model = Sana(plain, WORDS)
    control = model.load_control(str(tmp_path))
    guidance = Guidance(model.condition("a dog"), model.condition("grass", negative=True), 4.5)

    def predict(latents: Latents, step: Step) -> Any:
        residuals = control(latents[[0]], step.at, guidance.branches, edges, 0.7)
        branches = model.predict(latents[[0]], step.at, guidance.branches, inject=Injection(residuals=residuals))
        yield [0], guidance.combine(*guidance.split(branches))

    *_, latents = sample(WIDE[:1], model.schedule.steps(3), predict, model.schedule.parametrisation)
    torch.testing.assert_close(latents, expected, rtol=0, atol=1e-5)
    assert (latents - sampled(model, guidance, 3, WIDE[:1])).abs().max() > 1e-3


def test_a_control_image_is_encoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_sana()
    seen: list[int] = []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda frames: seen.append(len(frames)) or encode(frames))
    control = model.load_control(str(save_tiny_sana_controlnet(tmp_path)))
    edges = torch.rand(3, 3, 16, 24, generator=torch.Generator().manual_seed(3)).round()
    prompt = model.condition("a dog")
    first = control(LATENTS, level(model), prompt, edges, 1.0)
    again = control(LATENTS, level(model), prompt, edges, 1.0)
    reverse = control(LATENTS.flip(0), level(model), prompt, edges.flip(0), 1.0)
    assert seen == [3]
    assert torch.equal(again[1], first[1])
    torch.testing.assert_close(reverse[1].flip(0), first[1], rtol=0, atol=1e-5)


def test_controlnets_that_do_not_fit_are_told_apart(tmp_path: Path) -> None:
    SanaControlNetModel(num_layers=2, **{**SIZES, "num_attention_heads": 1}).save_pretrained(tmp_path / "narrow")
    SanaControlNetModel(num_layers=4, **SIZES).save_pretrained(tmp_path / "deep")
    tiny_sana_pipeline().transformer.save_pretrained(tmp_path / "transformer")
    model = tiny_sana()
    for name, error, said in (
        ("narrow", ModelError, "trained for another model: its number of heads is 1, the model's is 2"),
        ("deep", ModelError, "has 4 layers; expected fewer than the model's 4"),
        ("transformer", ModelError, "is SanaTransformer2DModel; expected SanaControlNetModel"),
        ("none", ModelNotFoundError, "there is no ControlNet"),
    ):
        with pytest.raises(error, match=said):
            model.load_control(str(tmp_path / name))


def test_a_model_with_a_missing_part_or_another_autoencoder_is_refused() -> None:
    pipeline = tiny_sana_pipeline()
    pipeline.vae = None
    with pytest.raises(ModelError, match="has no vae"):
        Sana(pipeline)
    pipeline = tiny_sana_pipeline()
    pipeline.vae.register_to_config(latent_channels=8)
    with pytest.raises(ModelError, match="takes 4 channels but the autoencoder has 8"):
        Sana(pipeline)


def test_offloading_keeps_one_part_on_the_device_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(4))

    def run_through(model: Sana) -> list[torch.Tensor]:
        prompt = model.condition("a dog")
        latents = model.encode(frames)
        return [prompt.tokens, latents, model.predict(latents, level(model), prompt), model.decode(latents)]

    plain = run_through(tiny_sana())
    model = Sana(tiny_sana_pipeline(), WORDS, device=torch.device("cpu", 0), offload=True)
    moves: list[str] = []
    to = torch.nn.Module.to
    monkeypatch.setattr(
        torch.nn.Module, "to", lambda self, *where, **how: moves.append(type(self).__name__) or to(self, *where, **how)
    )
    for own, expected in zip(run_through(model), plain, strict=True):
        assert torch.equal(own, expected)
    assert moves[0] == "Gemma2Model"
    assert moves[-1] == "AutoencoderDC"


def test_the_fingerprint_of_weights_in_memory_changes_with_a_weight() -> None:
    other = tiny_sana_pipeline()
    other.transformer.proj_out.bias.data[0] += 1
    one, same = tiny_sana(), tiny_sana()
    assert one.fingerprint == same.fingerprint != Sana(other).fingerprint


def test_the_pipelines_class_is_loadable_by_diffusers_alone(tmp_path: Path) -> None:
    tiny_sana_pipeline().save_pretrained(tmp_path)
    loaded = Sana(SanaPipeline.from_pretrained(tmp_path), WORDS)
    model = tiny_sana()
    prompt = model.condition("a dog")
    assert torch.equal(loaded.condition("a dog").tokens, prompt.tokens)
    torch.testing.assert_close(
        loaded.predict(LATENTS, level(model), prompt), model.predict(LATENTS, level(model), prompt), rtol=0, atol=1e-6
    )
