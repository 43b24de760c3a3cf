from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel
from safetensors.torch import load_file, save_file

from tests.tiny import (
    level,
    save_tiny_controlnet,
    save_tiny_model,
    tiny_model,
    tiny_pipeline,
    tiny_unet,
    tiny_xl_pipeline,
)
from tokenflow.diffusion.conditioning import stack
from tokenflow.diffusion.levels import Level
from tokenflow.errors import ModelError, ModelNotFoundError
from tokenflow.models.injection import ATTENTION, Injection
from tokenflow.models.loading import load_model
from tokenflow.models.placement import ALIGNMENT
from tokenflow.models.stable_diffusion import StableDiffusion

LATENTS = torch.randn(3, 4, 8, 12, generator=torch.Generator().manual_seed(0))
OTHERS = torch.randn(3, 4, 8, 12, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("features", ["block", "residual"])
def test_capturing_features_and_injecting_them_into_the_same_latents_changes_nothing(features: str) -> None:
    model = tiny_model()
    prompt = model.condition("a dog")
    read = model.capture(LATENTS, level(500), prompt, {ATTENTION, features})
    plain = model.predict(LATENTS, level(500), prompt)
    injected = model.predict(LATENTS, level(500), prompt, inject=read)
    torch.testing.assert_close(injected, plain, rtol=0, atol=1e-5)


@pytest.mark.parametrize("point", [ATTENTION, "residual", "block"])
def test_injecting_another_images_features_changes_the_prediction(point: str) -> None:
    model = tiny_model()
    prompt = model.condition("a dog")
    read = model.capture(OTHERS, level(500), prompt, {point})
    plain = model.predict(LATENTS, level(500), prompt)
    assert (model.predict(LATENTS, level(500), prompt, inject=read) - plain).abs().max() > 1e-4


def test_an_injected_block_replaces_the_output_and_an_injected_residual_keeps_the_shortcut() -> None:
    model = tiny_model()
    prompt = model.condition("a dog")
    behind = model._unet.up_blocks[1].attentions[1]  # what the block's output goes into
    outputs: dict[str, torch.Tensor] = {}
    for place in ("block", "residual"):
        read = model.capture(OTHERS, level(500), prompt, {place})
        seen: list[torch.Tensor] = []
        handle = behind.register_forward_pre_hook(lambda _module, inputs, seen=seen: seen.append(inputs[0]))
        model.predict(LATENTS, level(500), prompt, inject=read)
        handle.remove()
        outputs[place] = seen[0]
        assert read.features.keys() == {place}
    theirs = model.capture(OTHERS, level(500), prompt, {"block"}).features["block"]
    torch.testing.assert_close(outputs["block"], theirs, rtol=0, atol=0)
    assert (outputs["residual"] - theirs).abs().max() > 1e-4


def test_capture_returns_every_wanted_point_and_refuses_unknown_ones() -> None:
    model = tiny_model()
    prompt = model.condition("a dog")
    both = model.capture(LATENTS, level(500), prompt, {"block", "residual"}).features
    for point in ("block", "residual"):
        alone = model.capture(LATENTS, level(500), prompt, {point}).features
        assert torch.equal(both[point], alone[point])
    with pytest.raises(ValueError, match=r"expected injection points among .*got nonsense"):
        model.capture(LATENTS, level(500), prompt, {"nonsense"})


def test_capturing_stops_behind_the_last_feature_that_is_wanted() -> None:
    model = tiny_model()
    ran: list[str] = []
    unet = model._unet
    handles = [unet.conv_out.register_forward_hook(lambda *_: ran.append("end"))]
    handles.append(unet.up_blocks[2].register_forward_hook(lambda *_: ran.append("last block")))
    model.capture(LATENTS, level(500), model.condition("a dog"), {"residual"})
    assert ran == []
    model.capture(LATENTS, level(500), model.condition("a dog"), {ATTENTION, "block"})
    assert ran == []
    for handle in handles:
        handle.remove()


def test_each_branch_is_what_it_would_be_alone() -> None:
    model = tiny_model()
    dog, tiger = model.condition("a dog"), model.condition("a tiger")
    both = model.predict(LATENTS, level(500), stack([dog, tiger]))
    torch.testing.assert_close(both[0], model.predict(LATENTS, level(500), dog)[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(both[1], model.predict(LATENTS, level(500), tiger)[0], rtol=0, atol=1e-5)


def test_a_network_predicts_its_own_quantity_and_samples_are_turned_into_noise() -> None:
    models = {kind: tiny_model(prediction_type=kind) for kind in ("epsilon", "v_prediction", "sample")}
    raw, velocity, sample = (model.predict(LATENTS, level(500), model.condition("a dog")) for model in models.values())
    assert torch.equal(velocity, raw)
    at = level(500)
    torch.testing.assert_close(sample, (LATENTS - at.signal * raw) / at.noise)


def test_the_time_that_the_network_is_told_is_the_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    told: list[Any] = []
    handle = model._unet.register_forward_pre_hook(lambda _module, inputs: told.append(inputs[1]))
    model.predict(LATENTS, Level(0.5, 0.5, 321.0), model.condition("a dog"))
    handle.remove()
    assert told == [321]


def test_encode_and_decode_keep_frames_and_their_size() -> None:
    model = tiny_model()
    frames = torch.rand(2, 3, 16, 24)
    latents = model.encode(frames)
    assert latents.shape == (2, 4, 8, 12)
    decoded = model.decode(latents)
    assert decoded.shape == frames.shape
    assert decoded.min() >= 0
    assert decoded.max() <= 1


def test_values_that_are_not_finite_are_refused() -> None:
    model = tiny_model()
    latents = torch.zeros(1, 4, 8, 8)
    latents[0, 0, 0, 0] = torch.nan
    with pytest.raises(ModelError, match=r"the VAE produced NaN or inf in torch.float32.*set model.dtype"):
        model.decode(latents)
    with pytest.raises(ModelError, match="NaN or inf"):
        model.encode(torch.full((1, 3, 16, 16), torch.inf))


def test_features_lie_on_the_finest_grid() -> None:
    model = tiny_model()
    assert model.features(LATENTS, level(100), model.condition("a dog")).shape == (3, 16, 8, 12)


def test_a_control_residual_changes_the_prediction(tmp_path: Path) -> None:
    model = tiny_model()
    prompt = stack([model.condition("a dog"), model.condition("a tiger")])
    control = model.load_control(str(save_tiny_controlnet(tmp_path)))
    residuals = control(LATENTS, level(500), prompt, torch.rand(3, 3, 16, 24), 1.0)
    plain = model.predict(LATENTS, level(500), prompt)
    controlled = model.predict(LATENTS, level(500), prompt, inject=Injection(residuals=residuals))
    assert (controlled - plain).abs().max() > 1e-3


def test_a_controlnet_is_read_once_for_many_edits_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    from_pretrained = ControlNetModel.from_pretrained
    monkeypatch.setattr(
        ControlNetModel,
        "from_pretrained",
        lambda path, **options: read.append(path) or from_pretrained(path, **options),
    )
    paths = [str(save_tiny_controlnet(tmp_path / name)) for name in ("one", "other")]
    model = tiny_model()
    for path in (paths[0], paths[0], paths[1], paths[1]):
        model.load_control(path)
    assert [str(each) for each in read] == paths
    weights = next(Path(paths[1]).glob("*.safetensors"))
    other = {name: weight + 1 for name, weight in load_file(weights).items()}
    save_file(other, tmp_path / "other.safetensors", metadata={"format": "pt"})
    (tmp_path / "other.safetensors").replace(weights)
    model.load_control(paths[1])
    assert [str(each) for each in read] == [*paths, paths[1]]  # it was replaced


def test_a_missing_controlnet_is_named() -> None:
    with pytest.raises(ModelNotFoundError, match=r"edit\.controlnet\.path"):
        tiny_model().load_control("no/such/controlnet")


def test_a_model_without_a_unet_is_refused() -> None:
    pipeline = tiny_pipeline()
    pipeline.unet = None
    with pytest.raises(ModelError, match="has no unet"):
        StableDiffusion(pipeline)


def test_a_prompt_is_encoded_as_diffusers_encodes_it() -> None:
    pipeline = tiny_pipeline()
    expected, _ = pipeline.encode_prompt("a dog", "cpu", 1, False)
    assert torch.equal(StableDiffusion(pipeline).condition("a dog").tokens, expected)


def test_sdxl_encodes_a_prompt_as_diffusers_does() -> None:
    pipeline = tiny_xl_pipeline()
    states, _, pooled, _ = pipeline.encode_prompt("a dog", device="cpu", do_classifier_free_guidance=False)
    embedded = StableDiffusion(pipeline).condition("a dog")
    assert torch.equal(embedded.tokens, states)
    assert torch.equal(embedded.added["text_embeds"], pooled)
    assert embedded.added["time_ids"].tolist() == [[16, 16, 0, 0, 16, 16]]


def test_sdxl_is_told_the_size_of_the_frames() -> None:
    """As StableDiffusionXLPipeline: original height and width, crop, target height and width."""
    model = StableDiffusion(tiny_xl_pipeline())
    sizes = model.condition("a dog", size=(24, 16)).added["time_ids"]
    assert sizes.tolist() == [[16, 24, 0, 0, 16, 24]]


@pytest.mark.parametrize("zeros", [True, False])
def test_sdxls_empty_negative_prompt_is_what_its_pipeline_makes_of_none(zeros: bool) -> None:
    pipeline = tiny_xl_pipeline()
    pipeline.register_to_config(force_zeros_for_empty_prompt=zeros)
    _, states, _, pooled = pipeline.encode_prompt("a dog", device="cpu", do_classifier_free_guidance=True)
    model = StableDiffusion(pipeline)
    negative = model.condition("", negative=True)
    assert torch.equal(negative.tokens, states)
    assert torch.equal(negative.added["text_embeds"], pooled)
    assert bool((negative.tokens == 0).all()) == zeros
    assert model.condition("", negative=False).tokens.abs().max() > 0


def test_sdxls_unet_predicts_and_injects_like_the_others() -> None:
    model = StableDiffusion(tiny_xl_pipeline())
    prompt = stack([model.condition("a dog"), model.condition("a tiger")])
    plain = model.predict(LATENTS, level(500), prompt)
    features = model.capture(LATENTS, level(500), model.condition("a dog"), {ATTENTION, "block"})
    own = model.predict(LATENTS, level(500), model.condition("a dog"), inject=features)
    torch.testing.assert_close(own[0], plain[0], rtol=0, atol=1e-5)
    assert (plain[0] - plain[1]).abs().max() > 1e-5
    assert model._points.block is model._unet.up_blocks[0].resnets[1]


def test_sdxls_autoencoder_works_in_full_precision_and_others_in_the_models() -> None:
    for pipeline, expected in ((tiny_pipeline(), torch.float16), (tiny_xl_pipeline(), torch.float32)):
        StableDiffusion(pipeline.to(torch.float16))
        assert pipeline.vae.dtype == expected
        assert pipeline.unet.dtype == torch.float16


def test_loaded_weights_are_aligned_so_that_every_load_rounds_alike(tmp_path: Path) -> None:
    model = load_model(save_tiny_model(tmp_path), device="cpu")
    networks = (model._unet, model._autoencoder._network, model._text._encoders[0][1])
    assert {parameter.data_ptr() % ALIGNMENT for network in networks for parameter in network.parameters()} == {0}


def run_through(model: StableDiffusion) -> list[torch.Tensor]:
    """The output of every part, in the order of an edit."""
    prompt = model.condition("a dog")
    latents = model.encode(torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(4)))
    return [prompt.tokens, latents, model.predict(latents, level(500), prompt), model.decode(latents)]


def test_offloading_keeps_one_part_on_the_device_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    moves: list[tuple[str, str]] = []
    to = torch.nn.Module.to

    def noted(network: torch.nn.Module, *where: Any, **how: Any) -> torch.nn.Module:
        moves.append((type(network).__name__, str(where[0])))
        return to(network, *where, **how)

    plain = run_through(StableDiffusion(tiny_pipeline()))
    model = StableDiffusion(tiny_pipeline(), device=torch.device("cpu", 0), offload=True)
    monkeypatch.setattr(torch.nn.Module, "to", noted)
    for own, expected in zip(run_through(model), plain, strict=True):
        assert torch.equal(own, expected)
    assert moves == [
        ("CLIPTextModel", "cpu:0"),
        *(("CLIPTextModel", "cpu"), ("AutoencoderKL", "cpu:0")),
        *(("AutoencoderKL", "cpu"), ("UNet2DConditionModel", "cpu:0")),
        *(("UNet2DConditionModel", "cpu"), ("AutoencoderKL", "cpu:0")),
    ]


def test_tiles_give_about_the_whole_image(tmp_path: Path) -> None:
    saved = str(save_tiny_model(tmp_path))
    whole, tiled = load_model(saved, device="cpu"), load_model(saved, device="cpu", tiling=True)
    frames = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(4))
    # Normalised tile by tile, a random autoencoder gives another picture; its size and rough content stay.
    assert tiled.encode(frames).shape == whole.encode(frames).shape
    latents = whole.encode(frames)
    difference = (tiled.decode(latents) - whole.decode(latents)).abs()
    assert 0 < difference.mean() < 0.1


def test_a_controlnet_of_another_depth_no_controlnet_and_a_damaged_one_are_told_apart(tmp_path: Path) -> None:
    deeper = ControlNetModel.from_unet(tiny_unet(layers=2), conditioning_embedding_out_channels=(8, 16))
    deeper.save_pretrained(tmp_path / "deeper")
    tiny_unet().save_pretrained(tmp_path / "unet")
    damaged = save_tiny_controlnet(tmp_path / "damaged")
    (file,) = damaged.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    (tmp_path / "empty").mkdir()
    for name, error, said in (
        ("deeper", ModelError, "trained for another model: its number of layers per block is 2, the model's is 1"),
        ("unet", ModelError, "is UNet2DConditionModel; expected one of ControlNetModel"),
        ("damaged", ModelError, "cannot be loaded"),
        ("empty", ModelNotFoundError, r"there is no ControlNet at .*: it has no config\.json"),
    ):
        with pytest.raises(error, match=said):
            tiny_model().load_control(str(tmp_path / name))


def test_another_text_changes_cross_attention_only_where_it_differs() -> None:
    model = tiny_model()
    dog, cat = model.condition("a dog"), model.condition("a cat")
    before = model.predict(LATENTS, level(500), dog)
    change = model.text_change(LATENTS, level(500), dog, cat)
    assert change.shape == (len(LATENTS), *LATENTS.shape[-2:])
    assert change.min() > 0
    assert not model.text_change(LATENTS, level(500), dog, dog).any()
    assert torch.equal(model.predict(LATENTS, level(500), dog), before)  # and no processor is left behind


def test_calls_from_several_threads_take_turns_and_give_what_they_give_one_after_another() -> None:
    model = tiny_model()
    prompt = model.condition("a dog")
    captured = model.capture(OTHERS, level(500), prompt, {ATTENTION, "block"})
    calls: list[Any] = [
        lambda: model.predict(LATENTS, level(500), prompt),
        lambda: model.predict(LATENTS, level(500), prompt, inject=captured),
        lambda: model.capture(LATENTS, level(500), prompt, {ATTENTION}).queries_keys.popitem()[1][0],
        lambda: model.features(LATENTS, level(100), prompt),
        lambda: model.text_change(LATENTS, level(100), prompt, model.condition("a cat")),
        lambda: model.decode(LATENTS),
    ]
    expected = [call() for call in calls]
    with ThreadPoolExecutor(len(calls)) as pool:
        for _ in range(5):
            for made, wanted in zip(pool.map(lambda call: call(), calls), expected, strict=True):
                assert torch.equal(made, wanted)


def test_the_fingerprint_of_weights_in_memory_changes_with_a_weight_and_the_precision() -> None:
    one, same, other = tiny_model(), tiny_model(), tiny_pipeline()
    other.unet.conv_out.bias.data[0] += 1
    fingerprints = [each.fingerprint for each in (one, same, StableDiffusion(other))]
    fingerprints.append(StableDiffusion(tiny_pipeline().to(torch.bfloat16)).fingerprint)
    assert fingerprints[0] == fingerprints[1]
    assert len(set(fingerprints)) == 3
