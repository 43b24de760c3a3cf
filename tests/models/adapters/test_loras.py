from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.models.adapters.making import RANK, lora_weights, merge, network_of, save_diffusers, save_kohya, save_peft
from tests.tiny import tiny_pipeline, tiny_xl_pipeline
from tests.tiny_sana import tiny_sana_pipeline
from tokenflow.config import LoRA
from tokenflow.errors import ModelError, ModelNotFoundError, TokenflowWarning
from tokenflow.models.adapters.few_step_loras import few_step_kind
from tokenflow.models.families import FAMILIES
from tokenflow.models.loading import load_model, stored_fingerprint
from tokenflow.models.model import Model

LATENTS = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
PIPELINES: dict[str, Callable[[], Any]] = {"sd": tiny_pipeline, "xl": tiny_xl_pipeline, "sana": tiny_sana_pipeline}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    for name, make in PIPELINES.items():
        make().save_pretrained(folder / name)
    return {name: folder / name for name in PIPELINES}


def loaded(path: Path, *loras: LoRA, **options: Any) -> Model:
    return load_model(path, device="cpu", dtype="float32", loras=loras, **options)


def predicted(model: Model) -> Tensor:
    return model.predict(LATENTS, model.schedule.steps(4)[1].at, model.condition("a dog", negative=True))


def merged(pipeline: Any, parts: dict[str, dict[str, Tensor]], scale: float) -> Model:
    """The model with the LoRA merged into its weights: what a LoRA means."""
    for part, weights in parts.items():
        merge(getattr(pipeline, part), weights, scale)
    return FAMILIES[type(pipeline).__name__].model(pipeline)


@pytest.mark.parametrize("family", PIPELINES)
def test_a_lora_adds_its_product_at_its_scale_and_the_base_stays_as_it_was(
    family: str, saved: dict[str, Path], tmp_path: Path
) -> None:
    pipeline = PIPELINES[family]()
    parts = {network_of(pipeline): lora_weights(pipeline, network_of(pipeline))}
    file = save_diffusers(pipeline, tmp_path, parts)
    plain, model = loaded(saved[family]), loaded(saved[family], LoRA(path=str(file), scale=0.7))
    expected = predicted(merged(pipeline, parts, 0.7))
    torch.testing.assert_close(predicted(model), expected, rtol=0, atol=1e-5)
    assert (expected - predicted(plain)).abs().max() > 1e-3
    assert torch.equal(predicted(model.base), predicted(plain))
    torch.testing.assert_close(predicted(model), expected, rtol=0, atol=1e-5)  # switched on again


@pytest.mark.parametrize("format", ["diffusers", "kohya", "peft"])
def test_every_format_and_the_text_encoder_are_read(format: str, saved: dict[str, Path], tmp_path: Path) -> None:
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
    model = loaded(saved["sd"], LoRA(path=str(file)))
    torch.testing.assert_close(predicted(model), predicted(merged(pipeline, parts, scale)), rtol=0, atol=1e-5)


def test_several_loras_add_up(saved: dict[str, Path], tmp_path: Path) -> None:
    pipeline, loras = tiny_pipeline(), []
    for seed, scale in enumerate((0.5, -1.0)):
        weights = lora_weights(pipeline, "unet", seed)
        (tmp_path / str(seed)).mkdir()
        loras.append(LoRA(path=str(save_diffusers(pipeline, tmp_path / str(seed), {"unet": weights})), scale=scale))
        merge(pipeline.unet, weights, scale)
    expected = predicted(FAMILIES["StableDiffusionPipeline"].model(pipeline))
    torch.testing.assert_close(predicted(loaded(saved["sd"], *loras)), expected, rtol=0, atol=1e-5)


def test_a_dora_of_peft_changes_the_prediction(saved: dict[str, Path], tmp_path: Path) -> None:
    weights = lora_weights(tiny_pipeline(), "unet", dora=True)
    assert any("lora_magnitude_vector" in name for name in weights)
    model = loaded(saved["sd"], LoRA(path=str(save_peft(tmp_path / "dora", weights, alpha=RANK))))
    assert any("magnitude" in name for name, _ in model.network.named_parameters())
    assert (predicted(model) - predicted(model.base)).abs().max() > 1e-3


def test_only_the_edits_fingerprint_changes_with_the_lora_and_its_scale(saved: dict[str, Path], tmp_path: Path) -> None:
    pipeline = tiny_pipeline()
    file = str(save_diffusers(pipeline, tmp_path, {"unet": lora_weights(pipeline, "unet")}))
    plain = loaded(saved["sd"]).fingerprint
    models = [loaded(saved["sd"], LoRA(path=file, scale=scale)) for scale in (0.5, 1.0)]
    assert {model.base.fingerprint for model in models} == {plain}
    assert len({plain, *(model.fingerprint for model in models)}) == 3
    options: Any = {"device": "cpu", "dtype": "float32", "loras": [LoRA(path=file)]}
    assert stored_fingerprint(str(saved["sd"]), **options) == plain


def test_a_lora_of_another_model_is_refused(saved: dict[str, Path], tmp_path: Path) -> None:
    for other in ("xl", "sana"):
        pipeline = PIPELINES[other]()
        part = network_of(pipeline)
        (tmp_path / other).mkdir()
        file = save_diffusers(pipeline, tmp_path / other, {part: lora_weights(pipeline, part)})
        with pytest.raises(ModelError, match=r"the LoRA .* set model.loras to one that was trained for"):
            loaded(saved["sd"], LoRA(path=str(file)))


def test_layers_that_the_model_does_not_have_give_a_notice(saved: dict[str, Path], tmp_path: Path) -> None:
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
        loaded(saved["sd"], LoRA(path=str(file)))


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("lora_unet_x.hada_w1_a", "is a LoHa"),
        ("lora_unet_x.dora_scale", "is a DoRA in kohya's format"),
        ("something.weight", "holds something other than a LoRA"),
    ],
)
def test_other_adapters_are_refused_by_name(key: str, message: str, saved: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    save_file({key: torch.zeros(2, 2)}, file)
    with pytest.raises(ModelError, match=message):
        loaded(saved["sd"], LoRA(path=str(file)))


def test_a_missing_file_and_a_folder_with_several_are_told(saved: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"there is no adapter .*set model.loras"):
        loaded(saved["sd"], LoRA(path=str(tmp_path / "none.safetensors")))
    for name in ("a", "b"):
        save_file({"x": torch.zeros(1)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(ModelNotFoundError, match=r"has 2 .safetensors files; set model.loras to the one"):
        loaded(saved["sd"], LoRA(path=str(tmp_path)))


@pytest.mark.parametrize(
    ("name", "scheduler", "steps", "guidance"),
    [
        ("lcm-lora.safetensors", "renoises", 4, "branches"),
        ("sdxl_lightning_4step.safetensors", "keeps its noise", 4, "none"),
        ("Hyper-SD15-8steps.safetensors", "keeps its noise", 4, "branches"),
    ],
)
def test_a_few_step_lora_sets_few_step_mode_unless_told_otherwise(
    name: str, scheduler: str, steps: int, guidance: str, saved: dict[str, Path], tmp_path: Path
) -> None:
    pipeline = tiny_pipeline()
    file = save_diffusers(pipeline, tmp_path, {"unet": lora_weights(pipeline, "unet")}).rename(tmp_path / name)
    model = loaded(saved["sd"], LoRA(path=str(file)))
    few_step = model.schedule.few_step
    assert few_step is not None
    assert (few_step.steps, few_step.renoises, model.guidance) == (steps, scheduler == "renoises", guidance)
    assert model.base.fingerprint != loaded(saved["sd"]).fingerprint
    assert loaded(saved["sd"], LoRA(path=str(file)), few_step=False).schedule.few_step is None


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("latent-consistency/lcm-lora-sdv1-5", "lcm"),
        ("ByteDance/SDXL-Lightning/sdxl_lightning_4step_lora.safetensors", "lightning"),
        ("ByteDance/Hyper-SD/Hyper-SDXL-8steps-lora.safetensors", "hyper"),
        ("h1t/TCD-SDXL-LoRA", "tcd"),
        ("loras/hyper_realism.safetensors", None),
        ("loras/lightning_storm_v2.safetensors", None),
        ("loras/calcmap.safetensors", None),
    ],
)
def test_few_step_loras_are_known_by_their_published_names(path: str, kind: str | None) -> None:
    assert few_step_kind([LoRA(path="style.safetensors"), LoRA(path=path)]) == kind
