"""FLUX.1 and FLUX.2 beside diffusers' pipelines, and what they promise as a `Model`."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import Flux2KleinKVPipeline, FluxControlNetModel, FluxControlNetPipeline
from PIL import Image

from tests.tiny_flux import (
    WORDS,
    save_tiny_flux_controlnet,
    tiny_flux,
    tiny_flux2,
    tiny_flux2_pipeline,
    tiny_flux_pipeline,
)
from tokenflow.diffusion.conditioning import stack
from tokenflow.diffusion.guidance import Guidance, embedded
from tokenflow.diffusion.latents import Latents
from tokenflow.diffusion.sampling import sample
from tokenflow.diffusion.schedules import Step
from tokenflow.errors import ModelError, TokenflowWarning
from tokenflow.models.attention import AttentionCall, attend_within_frames, per_frame_attention, project_qkv
from tokenflow.models.autoencoder import patchify, unpatchify
from tokenflow.models.flux import Flux
from tokenflow.models.flux2 import Flux2
from tokenflow.models.injection import ATTENTION, BLOCK, RESIDUAL, Injection
from tokenflow.models.joint_transformer import JointTransformer
from tokenflow.models.model import token_count

LATENTS = torch.randn(3, 4, 8, 12, generator=torch.Generator().manual_seed(0))
OTHERS = torch.randn(3, 4, 8, 12, generator=torch.Generator().manual_seed(1))

SIZE = {"height": 16, "width": 24}

MODELS: dict[str, Callable[..., JointTransformer]] = {"flux": tiny_flux, "flux2": tiny_flux2}


@pytest.fixture(params=MODELS)
def model(request: Any) -> JointTransformer:
    return MODELS[request.param]()


def quiet(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def level(model: JointTransformer, steps: int = 3) -> Any:
    return model.schedule.steps(steps, tokens=24)[1].at


def sampled(
    model: JointTransformer,
    guidance: Guidance,
    steps: int,
    start: torch.Tensor,
    inject: Callable[[torch.Tensor, Step], Injection] = lambda latents, step: Injection(),
) -> torch.Tensor:
    """Latents of all frames, sampled by this project."""

    def predict(latents: Latents, step: Step) -> Any:
        indices = list(range(len(latents)))
        part = latents[indices]
        branches = model.predict(part, step.at, guidance.branches, inject=inject(part, step))
        yield indices, guidance.combine(*guidance.split(branches))

    tokens = token_count(model, (SIZE["width"], SIZE["height"]))
    *_, latents = sample(start, model.schedule.steps(steps, tokens), predict, model.schedule.parametrisation)
    return latents


def unpacked(tokens: torch.Tensor) -> torch.Tensor:
    """Tokens of FluxPipeline as latents."""
    return unpatchify(tokens.transpose(1, 2).unflatten(2, (4, 6)))


@pytest.mark.parametrize("schnell", [False, True])
def test_it_samples_what_fluxpipeline_samples_from_the_same_noise(schnell: bool) -> None:
    pipeline = quiet(tiny_flux_pipeline(schnell))
    model = Flux(pipeline)
    tokens = patchify(LATENTS).flatten(2).transpose(1, 2)
    options = {"max_sequence_length": model._max_tokens, "output_type": "latent", **SIZE}
    expected = pipeline(["a dog"] * 3, num_inference_steps=4, guidance_scale=3.5, latents=tokens, **options).images
    prompt = model.condition("a dog")
    assert model.guidance == ("none" if schnell else "embedded")
    guidance = Guidance(prompt if schnell else embedded(prompt, 3.5), None, 3.5)
    torch.testing.assert_close(sampled(model, guidance, 4, LATENTS), unpacked(expected), rtol=0, atol=1e-5)


def test_a_schnell_that_takes_many_steps_is_guided_by_branches_as_in_fluxpipeline() -> None:
    pipeline = quiet(tiny_flux_pipeline(schnell=True))
    model = Flux(pipeline, few_step=False)
    tokens = patchify(LATENTS).flatten(2).transpose(1, 2)
    expected = pipeline(
        ["a dog"] * 3,
        negative_prompt=["grass"] * 3,
        true_cfg_scale=4.0,
        num_inference_steps=5,
        latents=tokens,
        max_sequence_length=32,
        output_type="latent",
        **SIZE,
    ).images
    guidance = Guidance(model.condition("a dog"), model.condition("grass", negative=True), 4.0)
    torch.testing.assert_close(sampled(model, guidance, 5, LATENTS), unpacked(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize("distilled", [False, True])
def test_it_samples_what_flux2kleinpipeline_samples_from_the_same_noise(distilled: bool) -> None:
    pipeline = quiet(tiny_flux2_pipeline(distilled))
    model = Flux2(pipeline)
    expected = pipeline(
        prompt=["a dog"] * 3,
        num_inference_steps=4,
        guidance_scale=4.0 if not distilled else 1.0,
        latents=patchify(LATENTS),
        max_sequence_length=32,
        text_encoder_out_layers=(1, 2, 3),
        output_type="pt",
        **SIZE,
    ).images
    negative = None if distilled else model.condition("", negative=True)
    latents = sampled(model, Guidance(model.condition("a dog"), negative, 4.0), 4, LATENTS)
    torch.testing.assert_close(model.decode(latents), expected, rtol=0, atol=1e-5)


def test_kontext_is_shown_the_source_as_in_its_pipeline() -> None:
    pipeline = quiet(tiny_flux_pipeline(kontext=True))
    model = Flux(pipeline)
    assert model.instructs
    source = torch.randn(3, 4, 8, 12, generator=torch.Generator().manual_seed(5))
    expected = pipeline(
        source,
        prompt=["make it a tiger"] * 3,
        num_inference_steps=4,
        guidance_scale=2.5,
        latents=patchify(LATENTS).flatten(2).transpose(1, 2),
        max_sequence_length=32,
        max_area=SIZE["height"] * SIZE["width"],
        output_type="latent",
        **SIZE,
    ).images
    guidance = Guidance(embedded(model.condition("make it a tiger"), 2.5), None, 2.5)
    latents = sampled(model, guidance, 4, LATENTS, lambda *_: Injection(sources=source))
    torch.testing.assert_close(latents, unpacked(expected), rtol=0, atol=1e-5)


def picture(seed: int, width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8))


def pixels(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255


def test_klein_is_shown_the_source_as_in_its_pipeline() -> None:
    pipeline = quiet(tiny_flux2_pipeline(distilled=True))
    model, image = Flux2(pipeline), picture(0, 24, 16)
    pipeline.image_processor.check_image_input = lambda *_: None  # it expects images of real sizes
    expected = pipeline(
        image=image,
        prompt="make it a tiger",
        num_inference_steps=4,
        guidance_scale=1.0,
        latents=patchify(LATENTS[:1]),
        max_sequence_length=32,
        text_encoder_out_layers=(1, 2, 3),
        output_type="pt",
        **SIZE,
    ).images
    source = model.encode(pixels(image))
    guidance = Guidance(model.condition("make it a tiger"), None, 1.0)
    latents = sampled(model, guidance, 4, LATENTS[:1], lambda *_: Injection(sources=source))
    torch.testing.assert_close(model.decode(latents), expected, rtol=0, atol=1e-5)
    assert (latents - sampled(model, guidance, 4, LATENTS[:1])).abs().max() > 1e-3


def test_references_are_read_once_as_in_kleins_pipeline_with_a_cache() -> None:
    plain = tiny_flux2_pipeline(distilled=True)
    pipeline = quiet(Flux2KleinKVPipeline(**plain.components))
    model, images = Flux2(plain), [picture(0, 24, 16), picture(1, 16, 16)]
    pipeline.image_processor.check_image_input = lambda *_: None
    expected = pipeline(
        image=images,
        prompt="a dog",
        num_inference_steps=4,
        latents=patchify(LATENTS[:1]),
        max_sequence_length=32,
        text_encoder_out_layers=(1, 2, 3),
        output_type="pt",
        **SIZE,
    ).images
    references = model.read_references([model.encode(pixels(image)) for image in images])
    assert {name: keys.shape for name, (keys, _) in references.items()} == {
        site.name: (1, 24 + 16, 16) for site in model.sites
    }
    prompt = model.condition("a dog")
    without = sampled(model, Guidance(prompt, None, 1.0), 4, LATENTS[:1])
    guidance = Guidance(replace(prompt, references=references), None, 1.0)
    latents = sampled(model, guidance, 4, LATENTS[:1])
    torch.testing.assert_close(model.decode(latents), expected, rtol=0, atol=1e-5)
    assert (latents - without).abs().max() > 1e-3


def test_both_branches_of_guidance_see_the_references() -> None:
    model = tiny_flux2()
    references = model.read_references([OTHERS[:1]])
    prompts = [replace(model.condition(text), references=references) for text in ("a dog", "")]
    both = model.predict(LATENTS, level(model), stack(prompts))
    for branch, prompt in zip(both, prompts, strict=True):
        torch.testing.assert_close(branch, model.predict(LATENTS, level(model), prompt)[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_attention_is_that_of_diffusers_bit_for_bit(model: JointTransformer, dtype: torch.dtype) -> None:
    model._transformer.to(dtype)
    prompt = stack([model.condition("a dog"), model.condition("a tiger")])
    expected = model.predict(LATENTS, level(model), prompt)
    assert torch.equal(model.predict(LATENTS, level(model), prompt, attention=per_frame_attention()), expected)

    def different(call: AttentionCall) -> torch.Tensor:
        return per_frame_attention()(call) * 1.01

    assert not torch.equal(model.predict(LATENTS, level(model), prompt, attention=different), expected)


def test_joined_frames_attend_to_all_texts_and_images_as_one_sequence(model: JointTransformer) -> None:
    heads, seen = 2, []

    def compare(call: AttentionCall) -> torch.Tensor:
        queries, keys, values = project_qkv(call)  # f n c
        tokens = queries.shape[1]
        assert tokens == 32 + 4 * 6  # each frame has its text
        together = call.attend(queries.flatten(0, 1)[None], tuple(each[None] for each in call.memory(keys, values)))
        q, k, v = (each.flatten(0, 1).unflatten(-1, (heads, -1)).double() for each in (queries, keys, values))
        logits = torch.einsum("qhd,khd->hqk", q, k) / 8**0.5
        plain = torch.einsum("hqk,khd->qhd", logits.softmax(-1), v).flatten(1)
        torch.testing.assert_close(together[0].double(), plain, rtol=0, atol=1e-5)
        seen.append(call.site.name)
        return attend_within_frames(call, queries, keys, values)

    model.predict(LATENTS, level(model), model.condition("a dog"), attention=compare)
    assert seen == [site.name for site in model.sites]


def test_a_part_of_the_image_tokens_is_projected_as_the_whole_is(model: JointTransformer) -> None:
    frames, indices = torch.tensor([2, 0]), torch.tensor([[0, 5, 23], [7, 1, 2]])

    def compare(call: AttentionCall) -> torch.Tensor:
        queries, keys, values = call.project_part(frames, indices)
        expected = project_qkv(call)
        rows = frames[:, None]
        torch.testing.assert_close(queries, expected[0][rows, call.text_tokens + indices], rtol=0, atol=1e-6)
        torch.testing.assert_close(keys, expected[1][frames], rtol=0, atol=1e-6)
        torch.testing.assert_close(values, expected[2][frames], rtol=0, atol=1e-6)
        return attend_within_frames(call, *expected)

    model.predict(LATENTS, level(model), model.condition("a dog"), attention=compare)


def test_encode_and_decode_are_fluxpipelines_scaling() -> None:
    pipeline = tiny_flux_pipeline()
    model = Flux(pipeline)
    frames = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        latents = pipeline.vae.encode(frames * 2 - 1).latent_dist.mode()
        images = pipeline.vae.decode(latents).sample
    torch.testing.assert_close(model.encode(frames), (latents - 0.1) * 0.5)
    torch.testing.assert_close(model.decode((latents - 0.1) * 0.5), (images / 2 + 0.5).clamp(0, 1))


def test_latents_of_flux2_are_normalised_by_the_autoencoders_statistics() -> None:
    pipeline = tiny_flux2_pipeline()
    model = Flux2(pipeline)
    frames = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = pipeline._encode_vae_image(frames * 2 - 1, None)
        images = pipeline.vae.decode(pipeline.vae.encode(frames * 2 - 1).latent_dist.mode()).sample
    torch.testing.assert_close(model.encode(frames), unpatchify(expected))
    torch.testing.assert_close(model.decode(model.encode(frames)), (images / 2 + 0.5).clamp(0, 1), rtol=0, atol=1e-5)


def test_patches_are_packed_as_fluxpipeline_packs_them() -> None:
    pipeline = tiny_flux_pipeline()
    packed = pipeline._pack_latents(LATENTS, 3, 4, 8, 12)
    assert torch.equal(patchify(LATENTS).flatten(2).transpose(1, 2), packed)
    assert torch.equal(unpatchify(patchify(LATENTS)), LATENTS)


def test_sizes_follow_the_autoencoder_and_the_transformer(model: JointTransformer) -> None:
    assert (model.pixels_per_latent, model.latent_channels, model.size_multiple, model.native_size) == (2, 4, 4, 32)


def test_prompts_that_are_too_long_or_unknown_give_notices() -> None:
    for model in (tiny_flux(), tiny_flux2()):
        with pytest.warns(TokenflowWarning, match=r"longer than the 32 tokens .* ignores .*zebra"):
            model.condition("a dog on grass a dog on grass and a zebra")
    for model in (Flux(tiny_flux_pipeline(), WORDS), Flux2(tiny_flux2_pipeline(), WORDS)):
        with pytest.warns(TokenflowWarning, match="never seen 'zebra'"):
            model.condition("a zebra")


def test_schnell_reads_fewer_tokens_than_dev() -> None:
    dev, schnell = tiny_flux_pipeline(), tiny_flux_pipeline(schnell=True)
    for pipeline in (dev, schnell):
        pipeline.tokenizer_2.model_max_length = 1000
    assert [Flux(each).condition("a dog").tokens.shape[1] for each in (dev, schnell)] == [512, 256]


def test_without_a_scale_flux_is_told_that_of_inversion() -> None:
    model = tiny_flux()
    prompt = model.condition("a dog")
    plain, one, other = (
        model.predict(LATENTS, level(model), each) for each in (prompt, *(embedded(prompt, g) for g in (1.0, 2.0)))
    )
    assert torch.equal(plain, one)
    assert not torch.equal(plain, other)


def test_each_branch_is_what_it_would_be_alone(model: JointTransformer) -> None:
    dog, tiger = model.condition("a dog"), model.condition("a tiger")
    both = model.predict(LATENTS, level(model), stack([dog, tiger]))
    torch.testing.assert_close(both[0], model.predict(LATENTS, level(model), dog)[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(both[1], model.predict(LATENTS, level(model), tiger)[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("features", [BLOCK, RESIDUAL])
@pytest.mark.parametrize(("double", "single"), [(1, 1), (2, 3)])
@pytest.mark.parametrize("name", MODELS)
def test_capturing_features_and_injecting_them_into_the_same_latents_changes_nothing(
    name: str, double: int, single: int, features: str
) -> None:
    model = MODELS[name](double=double, single=single)
    prompt = model.condition("a dog")
    read = model.capture(LATENTS, level(model), prompt, {ATTENTION, features})
    blocks = 1 if features == BLOCK else len(model._residual_blocks)
    assert read.features[features].shape == (3, 16 * blocks, 4, 6)
    plain = model.predict(LATENTS, level(model), prompt)
    injected = model.predict(LATENTS, level(model), prompt, inject=read)
    torch.testing.assert_close(injected, plain, rtol=0, atol=1e-6)


@pytest.mark.parametrize("point", [ATTENTION, RESIDUAL, BLOCK])
def test_injecting_another_images_features_changes_the_prediction(model: JointTransformer, point: str) -> None:
    prompt = model.condition("a dog")
    read = model.capture(OTHERS, level(model), prompt, {point})
    plain = model.predict(LATENTS, level(model), prompt)
    changed = model.predict(LATENTS, level(model), prompt, inject=read)
    assert (changed - plain).abs().max() > 1e-4
    stacked = model.predict(LATENTS, level(model), stack([prompt, prompt]), inject=read)
    torch.testing.assert_close(stacked[1], changed[0], rtol=0, atol=1e-5)


def test_injected_queries_and_keys_leave_those_of_the_text_alone(model: JointTransformer) -> None:
    read = model.capture(OTHERS, level(model), model.condition("a dog"), {ATTENTION})
    seen = []

    def compare(call: AttentionCall) -> torch.Tensor:
        own, given = call.queries_keys(), project_qkv(call, read)
        text = call.text_tokens
        if call.site.name in read.queries_keys:
            for mine, mixed, injected in zip(own, given, read.queries_keys[call.site.name], strict=False):
                assert torch.equal(mixed[:, :text], mine[:, :text])
                assert torch.equal(mixed[:, text:], injected)
            seen.append(call.site.name)
        return attend_within_frames(call, *given)

    model.predict(LATENTS, level(model), model.condition("a tiger"), attention=compare)
    assert seen == model._injected_sites


def test_capturing_stops_behind_the_last_feature_that_is_wanted(model: JointTransformer) -> None:
    ran: list[int] = []
    blocks = [*model._double, *model._single]
    for index, block in enumerate(blocks):
        block.attn.register_forward_pre_hook(lambda *_, index=index: ran.append(index))
    ends = {BLOCK: len(model._double) - 1, RESIDUAL: len(model._double)}
    for point, last in ends.items():
        ran.clear()
        model.capture(LATENTS, level(model), model.condition("a dog"), {point})
        assert max(ran) == last
    with pytest.raises(ValueError, match=r"expected injection points among .*got nonsense"):
        model.capture(LATENTS, level(model), model.condition("a dog"), {"nonsense"})


def test_the_points_of_a_full_size_network_are_those_of_reflex() -> None:
    model = tiny_flux(double=19, single=38)
    blocks = [*model._double, *model._single]
    assert [blocks.index(block) for block in model._residual_blocks] == list(range(13, 20))
    names = [site.name for site in model.sites]
    assert [names.index(name) for name in model._injected_sites] == list(range(20, 45))


def test_features_lie_on_the_token_grid(model: JointTransformer) -> None:
    features = model.features(LATENTS, level(model), model.condition("a dog"))
    assert features.shape == (3, 16, 4, 6)
    assert (features[0] - features[1]).abs().max() > 1e-3


def test_another_text_changes_attention_and_the_same_text_does_not(model: JointTransformer) -> None:
    prompt, other = model.condition("a dog"), model.condition("a tiger")
    same = model.text_change(LATENTS, level(model), prompt, prompt)
    assert same.shape == (3, 8, 12)
    assert same.abs().max() < 1e-5
    assert model.text_change(LATENTS, level(model), prompt, other).min() > 1e-4


@pytest.mark.parametrize("settings", [{}, {"num_mode": 3}, {"guidance_embeds": True}], ids=str)
def test_a_controlnet_acts_as_in_fluxs_controlnet_pipeline(settings: dict[str, Any], tmp_path: Path) -> None:
    plain = tiny_flux_pipeline()
    # Its pipeline samples the latents of the edges; without variance they are what we take, the mean.
    plain.vae.encoder.conv_out.weight.data[4:] = 0
    plain.vae.encoder.conv_out.bias.data[4:] = -30
    controlnet = FluxControlNetModel.from_pretrained(save_tiny_flux_controlnet(tmp_path, **settings))
    parts = {
        name: part for name, part in plain.components.items() if name not in ("image_encoder", "feature_extractor")
    }
    pipeline = quiet(FluxControlNetPipeline(controlnet=controlnet, **parts))
    edges = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(3)).round()
    expected = pipeline(
        "a dog",
        control_image=edges * 2 - 1,
        control_mode=0 if "num_mode" in settings else None,
        controlnet_conditioning_scale=0.7,
        num_inference_steps=3,
        guidance_scale=3.5,
        latents=patchify(LATENTS[:1]).flatten(2).transpose(1, 2),
        max_sequence_length=32,
        output_type="latent",
        **SIZE,
    ).images
    model = Flux(plain)
    control = model.load_control(str(tmp_path))
    guidance = Guidance(embedded(model.condition("a dog"), 3.5), None, 3.5)

    def inject(latents: torch.Tensor, step: Step) -> Injection:
        return Injection(residuals=control(latents, step.at, guidance.branches, edges, 0.7))

    latents = sampled(model, guidance, 3, LATENTS[:1], inject)
    torch.testing.assert_close(latents, unpacked(expected), rtol=0, atol=1e-5)
    assert (latents - sampled(model, guidance, 3, LATENTS[:1])).abs().max() > 1e-3


def test_a_controlnet_that_takes_images_repeats_its_residuals(tmp_path: Path) -> None:
    model = tiny_flux(in_channels=16)
    save_tiny_flux_controlnet(tmp_path, conditioning_embedding_channels=16, num_single_layers=0)
    control = model.load_control(str(tmp_path))
    edges = torch.rand(3, 3, 64, 96, generator=torch.Generator().manual_seed(3)).round()
    residuals = control(torch.randn(3, 4, 16, 24), level(model), model.condition("a dog"), edges, 1.0)
    assert residuals["controlnet_blocks_repeat"]
    assert [each.shape for each in residuals["controlnet_block_samples"]] == [(3, 96, 16)]
    assert residuals["controlnet_single_block_samples"] is None


def test_controlnets_that_do_not_fit_are_told_apart(tmp_path: Path) -> None:
    save_tiny_flux_controlnet(tmp_path / "narrow", joint_attention_dim=8)
    tiny_flux_pipeline().transformer.save_pretrained(tmp_path / "transformer")
    for name, said in (
        ("narrow", "trained for another model: its width of the prompt's states is 8, the model's is 12"),
        ("transformer", "is FluxTransformer2DModel; expected FluxControlNetModel"),
    ):
        with pytest.raises(ModelError, match=said):
            tiny_flux().load_control(str(tmp_path / name))
    with pytest.raises(ModelError, match="family has no ControlNet"):
        tiny_flux2().load_control(str(tmp_path / "narrow"))


@pytest.mark.parametrize(
    ("channels", "said"),
    [(96, "FLUX.1 Fill, which needs a mask"), (32, "FLUX.1 Canny or Depth"), (20, "takes 20 channels")],
)
def test_networks_with_other_inputs_are_told_apart(channels: int, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        tiny_flux(in_channels=channels)
    pipeline = tiny_flux2_pipeline()
    pipeline.vae.register_to_config(latent_channels=8)
    with pytest.raises(ModelError, match="takes 16 channels but the autoencoder has 8"):
        Flux2(pipeline)


def test_levels_are_those_of_the_pipelines_and_edits_start_below_pure_noise() -> None:
    dev, schnell, klein = (each.schedule for each in (tiny_flux(), tiny_flux(schnell=True), tiny_flux2()))
    assert [step.at.noise for step in schnell.steps(4)] == [1.0, 0.75, 0.5, 0.25]
    # The four steps of klein at 4096 tokens, by its pipeline's fit
    found = [step.at.noise for step in klein.steps(4, 4096)]
    assert found == pytest.approx([1.0, 0.967, 0.908, 0.767], abs=1e-3)
    assert (dev.edits_start_at, schnell.edits_start_at, klein.edits_start_at) == (0.936, 1.0, 0.936)
    for schedule in (dev, klein):
        steps = schedule.steps(25, 4096)
        assert all(before.at.noise > after.at.noise for before, after in pairwise(steps))


def test_offloading_keeps_one_part_on_the_device_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = tiny_flux().condition("a dog")
    model = Flux(tiny_flux_pipeline(), device=torch.device("cpu", 0), offload=True)
    moves: list[str] = []
    to = torch.nn.Module.to
    monkeypatch.setattr(
        torch.nn.Module, "to", lambda self, *where, **how: moves.append(type(self).__name__) or to(self, *where, **how)
    )
    assert torch.equal(model.condition("a dog").tokens, plain.tokens)
    assert moves == ["CLIPTextModel", "CLIPTextModel", "T5EncoderModel"]


def test_in_training_each_image_has_its_own_time_and_prompt_and_gradients_reach_the_network(
    model: JointTransformer,
) -> None:
    steps = model.schedule.steps(3, tokens=24)
    prompts = [model.condition(text) for text in ("a dog", "a tiger")]
    times = torch.tensor([steps[0].at.time, steps[1].at.time])
    model.network.requires_grad_(True)  # as LoRA layers in it do
    together = model.training_prediction(LATENTS[:2], times, stack(prompts))
    alone = [model.predict(LATENTS[[index]], steps[index].at, prompt)[0, 0] for index, prompt in enumerate(prompts)]
    torch.testing.assert_close(together.detach(), torch.stack(alone), rtol=0, atol=1e-5)
    together.square().mean().backward()
    gradients = [each.grad for each in model.network.parameters()]
    assert any(each is not None and each.abs().max() > 0 for each in gradients)
