from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.families import PIPELINES
from tests.models.adapters.making import RANK, lora_weights, merge, network_of, save_diffusers, save_kohya, save_peft
from tests.models.checkpoints.stub_hub import StubHub
from tests.tiny import tiny_pipeline
from tests.tiny_flux import tiny_flux_pipeline
from tokenflow.config import LoRA
from tokenflow.errors import ModelError, ModelNotFoundError, TokenflowWarning
from tokenflow.models.adapters.few_step_loras import find_few_step_lora
from tokenflow.models.families import FAMILIES
from tokenflow.models.loading import load_model, stored_fingerprint
from tokenflow.models.model import Model

LATENTS = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def loaded(path: Path, *loras: LoRA, **options: Any) -> Model:
    return load_model(path, device="cpu", dtype="float32", loras=loras, **options)


def predicted(model: Model) -> Tensor:
    at = model.schedule.steps(4, tokens=16)[1].at
    return model.predict(LATENTS, at, model.condition("a dog", negative=True))


def merged(pipeline: Any, parts: dict[str, dict[str, Tensor]], scale: float) -> Model:
    """The model with the LoRA merged into its weights: what a LoRA means."""
    for part, weights in parts.items():
        merge(getattr(pipeline, part), weights, scale)
    return FAMILIES[type(pipeline).__name__].model(pipeline)


@pytest.mark.parametrize("family", PIPELINES)
def test_a_lora_adds_its_product_at_its_scale_and_the_base_stays_as_it_was(
    family: str, families: dict[str, Path], tmp_path: Path
) -> None:
    pipeline = PIPELINES[family]()
    parts = {network_of(pipeline): lora_weights(pipeline, network_of(pipeline))}
    file = save_diffusers(pipeline, tmp_path, parts)
    plain, model = loaded(families[family]), loaded(families[family], LoRA(path=str(file), scale=0.7))
    expected = predicted(merged(pipeline, parts, 0.7))
    torch.testing.assert_close(predicted(model), expected, rtol=0, atol=1e-5)
    assert (expected - predicted(plain)).abs().max() > 1e-3
    assert torch.equal(predicted(model.base), predicted(plain))
    torch.testing.assert_close(predicted(model), expected, rtol=0, atol=1e-5)  # switched on again


@pytest.mark.parametrize("format", ["diffusers", "kohya", "peft"])
def test_every_format_and_the_text_encoder_are_read(format: str, families: dict[str, Path], tmp_path: Path) -> None:
    pipeline = tiny_pipeline()
    parts = {part: lora_weights(pipeline, part) for part in ("unet", "text_encoder")}
    scale = 1.0
    if format == "diffusers":
        file = save_diffusers(pipeline, tmp_path, parts)
    elif format == "kohya":
        file, scale = save_kohya(tmp_path / "kohya.safetensors", parts, alpha=1.0), 1 / RANK
    else:
        parts.pop("text_encoder")
        file, scale = save_peft(tmp_path / "peft", parts["unet"], alpha=4), 4 / RANK
    model = loaded(families["sd"], LoRA(path=str(file)))
    torch.testing.assert_close(predicted(model), predicted(merged(pipeline, parts, scale)), rtol=0, atol=1e-5)


def test_several_loras_add_up(families: dict[str, Path], tmp_path: Path) -> None:
    pipeline, loras = tiny_pipeline(), []
    for seed, scale in enumerate((0.5, -1.0)):
        weights = lora_weights(pipeline, "unet", seed)
        (tmp_path / str(seed)).mkdir()
        loras.append(LoRA(path=str(save_diffusers(pipeline, tmp_path / str(seed), {"unet": weights})), scale=scale))
        merge(pipeline.unet, weights, scale)
    expected = predicted(FAMILIES["StableDiffusionPipeline"].model(pipeline))
    torch.testing.assert_close(predicted(loaded(families["sd"], *loras)), expected, rtol=0, atol=1e-5)


def test_a_dora_of_peft_changes_the_prediction(families: dict[str, Path], tmp_path: Path) -> None:
    weights = lora_weights(tiny_pipeline(), "unet", dora=True)
    assert any("lora_magnitude_vector" in name for name in weights)
    model = loaded(families["sd"], LoRA(path=str(save_peft(tmp_path / "dora", weights, alpha=RANK))))
    assert any("magnitude" in name for name, _ in model.network.named_parameters())
    assert (predicted(model) - predicted(model.base)).abs().max() > 1e-3


def test_only_the_edits_fingerprint_changes_with_the_lora_and_its_scale(
    families: dict[str, Path], tmp_path: Path
) -> None:
    pipeline = tiny_pipeline()
    file = str(save_diffusers(pipeline, tmp_path, {"unet": lora_weights(pipeline, "unet")}))
    plain = loaded(families["sd"]).fingerprint
    models = [loaded(families["sd"], LoRA(path=file, scale=scale)) for scale in (0.5, 1.0)]
    assert {model.base.fingerprint for model in models} == {plain}
    assert len({plain, *(model.fingerprint for model in models)}) == 3
    options: Any = {"device": "cpu", "dtype": "float32", "loras": [LoRA(path=file)]}
    assert stored_fingerprint(str(families["sd"]), **options) == plain


def test_a_lora_of_another_model_is_refused(families: dict[str, Path], tmp_path: Path) -> None:
    for other in ("xl", "sana"):
        pipeline = PIPELINES[other]()
        part = network_of(pipeline)
        (tmp_path / other).mkdir()
        file = save_diffusers(pipeline, tmp_path / other, {part: lora_weights(pipeline, part)})
        with pytest.raises(ModelError, match=r"the LoRA .* set model.loras to one that was trained for"):
            loaded(families["sd"], LoRA(path=str(file)))


def test_layers_of_another_width_are_told_in_one_line_and_not_logged(
    families: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pipeline = tiny_pipeline()
    weights = lora_weights(pipeline, "unet")
    wider = {name: torch.cat([each, each], 1) if "to_q.lora_A" in name else each for name, each in weights.items()}
    file = save_diffusers(pipeline, tmp_path, {"unet": wider})
    with pytest.raises(
        ModelError, match=r"was trained for another model: its \S+to_q takes (\d+) features, the model's"
    ):
        loaded(families["sd"], LoRA(path=str(file)))
    assert "size mismatch" not in capfd.readouterr().err


@pytest.mark.parametrize("layer", ["attn1.to_q.lora_A", "attn1.processor.to_q_lora.down"])
def test_names_without_their_network_are_told(layer: str, families: dict[str, Path], tmp_path: Path) -> None:
    weights = {f"down_blocks.0.attentions.0.transformer_blocks.0.{layer}.weight": torch.zeros(RANK, 8)}
    save_file(weights, tmp_path / "bare.safetensors")
    with pytest.raises(ModelError, match=r"without its network; expected 'unet\.down_blocks"):
        loaded(families["sd"], LoRA(path=str(tmp_path / "bare.safetensors")))


def test_a_lora_of_peft_on_the_hub_keeps_its_scale(
    families: dict[str, Path], tmp_path: Path, stub_hub: StubHub
) -> None:
    pipeline = tiny_pipeline()
    weights = lora_weights(pipeline, "unet")
    stub_hub.add("someone/peft", save_peft(tmp_path / "peft", weights, alpha=8))
    model = loaded(families["sd"], LoRA(path="someone/peft"))
    torch.testing.assert_close(
        predicted(model), predicted(merged(pipeline, {"unet": weights}, 8 / RANK)), rtol=0, atol=1e-5
    )


def test_the_configuration_of_peft_is_needed_whole_and_belongs_to_the_fingerprint(
    families: dict[str, Path], tmp_path: Path
) -> None:
    folder = save_peft(tmp_path / "peft", lora_weights(tiny_pipeline(), "unet"), alpha=8)
    lora, config = LoRA(path=str(folder / "adapter_model.safetensors")), folder / "adapter_config.json"
    before = loaded(families["sd"], lora).fingerprint
    config.write_text('{"r": 2, "lora_alpha": 2}')
    assert loaded(families["sd"], lora).fingerprint != before
    for content in ("{nope", '{"r": 0, "lora_alpha": 4}', "[]"):
        config.write_text(content)
        with pytest.raises(ModelError, match=r"adapter_config.json' is damaged .*: download it again"):
            loaded(families["sd"], lora)
    config.unlink()
    with pytest.warns(TokenflowWarning, match="has no adapter_config.json beside it, so its scale is unknown"):
        loaded(families["sd"], lora)


def test_a_pickle_is_told_what_to_do_with(families: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "style.pt").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"a pickle, which can run any code .*: convert it"):
        loaded(families["sd"], LoRA(path=str(tmp_path / "style.pt")))


def test_layers_that_the_model_does_not_have_give_a_notice(families: dict[str, Path], tmp_path: Path) -> None:
    pipeline = tiny_pipeline()
    file = save_diffusers(pipeline, tmp_path, {"unet": lora_weights(pipeline, "unet")})
    weights = load_file(file)
    count = len(weights) // 2
    for name in [name for name in weights if "down_blocks.0.attentions.0" in name]:
        weights[name.replace("attentions.0", "attentions.7")] = weights[name].clone()
    added = len(weights) // 2 - count
    save_file(weights, file)
    with pytest.warns(
        TokenflowWarning, match=rf"has weights for {count + added} layers, of which the model has {count}"
    ):
        loaded(families["sd"], LoRA(path=str(file)))


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("lora_unet_x.hada_w1_a", "is a LoHa"),
        ("lora_unet_x.dora_scale", "is a DoRA in kohya's format"),
        ("lora_unet_x.lora_mid.weight", "is a LoCon with a Tucker decomposition"),
        ("lora_unet_x.diff", "is a LoRA with whole weights"),
        ("bundle_emb.toy.string_to_param.*", "is a LoRA with words .* embedded"),
        ("something.weight", "holds something other than a LoRA"),
    ],
)
def test_other_adapters_are_refused_by_name(key: str, message: str, families: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    save_file({key: torch.zeros(2, 2)}, file)
    with pytest.raises(ModelError, match=message):
        loaded(families["sd"], LoRA(path=str(file)))


def test_a_missing_file_and_a_folder_with_several_are_told(families: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"the adapter .* was not found.*set model.loras"):
        loaded(families["sd"], LoRA(path=str(tmp_path / "none.safetensors")))
    for name in ("a", "b"):
        save_file({"x": torch.zeros(1)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(ModelNotFoundError, match=r"has 2 .safetensors files; set model.loras to the one"):
        loaded(families["sd"], LoRA(path=str(tmp_path)))


@pytest.mark.parametrize(
    ("name", "renoises", "steps", "guidance"),
    [
        ("lcm-lora.safetensors", True, 4, "branches"),
        ("sdxl_lightning_8step_lora.safetensors", False, 8, "none"),
        ("Hyper-SD15-1step-lora.safetensors", False, 1, "none"),
        ("Hyper-SD15-12steps-CFG-lora.safetensors", False, 12, "branches"),
    ],
)
def test_a_few_step_lora_sets_few_step_mode_unless_told_otherwise(
    name: str, renoises: bool, steps: int, guidance: str, families: dict[str, Path], tmp_path: Path
) -> None:
    pipeline = tiny_pipeline()
    file = save_diffusers(pipeline, tmp_path, {"unet": lora_weights(pipeline, "unet")}).rename(tmp_path / name)
    with pytest.warns(TokenflowWarning, match=f"by its name, so the model samples in {steps} steps"):
        model = loaded(families["sd"], LoRA(path=str(file)))
    few_step = model.schedule.few_step
    assert few_step is not None
    assert (few_step.steps, few_step.renoises, model.guidance) == (steps, renoises, guidance)
    assert model.base.fingerprint != loaded(families["sd"]).fingerprint
    assert loaded(families["sd"], LoRA(path=str(file)), few_step=False).schedule.few_step is None
    assert loaded(families["sd"], LoRA(path=str(file), scale=0)).schedule.few_step is None


def test_a_family_that_does_not_follow_the_name_says_so(families: dict[str, Path], tmp_path: Path) -> None:
    pipeline = tiny_flux_pipeline()
    weights = {"transformer": lora_weights(pipeline, "transformer")}
    file = save_diffusers(pipeline, tmp_path, weights).rename(tmp_path / "Hyper-FLUX.1-dev-8steps-lora.safetensors")
    with pytest.warns(TokenflowWarning, match=r"family samples as without it; set edit.steps to 8"):
        assert loaded(families["flux"], LoRA(path=str(file))).schedule.few_step is None


@pytest.mark.parametrize(
    ("path", "kind", "steps"),
    [
        ("latent-consistency/lcm-lora-sdv1-5", "LCM", 4),
        ("loras/lcmlora.safetensors", "LCM", 4),
        ("ByteDance/SDXL-Lightning/sdxl_lightning_2step_lora.safetensors", "Lightning", 2),
        ("Lightning-SDXL-4steps.safetensors", "Lightning", 4),
        ("ByteDance/Hyper-SD/Hyper-SDXL-8steps-lora.safetensors", "Hyper-SD", 8),
        ("Hyper_SD15_8steps.safetensors", "Hyper-SD", 8),
        ("h1t/TCD-SDXL-LoRA", "TCD", 4),
        ("dmd2_sdxl_4step_lora.safetensors", "DMD2", 4),
        ("pcm_sd15_smallcfg_2step_converted.safetensors", "PCM", 2),
        ("sd_xl_turbo_lora_v1.safetensors", "Turbo", 4),
        ("loras/hyper_realism.safetensors", None, None),
        ("loras/lightning_storm_v2.safetensors", None, None),
        ("loras/calcmap.safetensors", None, None),
    ],
)
def test_few_step_loras_are_known_by_their_published_names(path: str, kind: str | None, steps: int | None) -> None:
    found = find_few_step_lora([LoRA(path="style.safetensors"), LoRA(path=path)])
    assert (found and found.kind, found and found.sampling.steps) == (kind, steps)


def test_the_folder_of_a_file_says_nothing_about_it(tmp_path: Path) -> None:
    (tmp_path / "lcm").mkdir()
    (tmp_path / "lcm" / "style.safetensors").touch()
    assert find_few_step_lora([LoRA(path=str(tmp_path / "lcm" / "style.safetensors"))]) is None
    assert find_few_step_lora([LoRA(path=str(tmp_path / "lcm"))]) is not None
