"""The estimate of memory by shapes, beside what is counted on real models, and what is said before the work."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

import tokenflow
from tests.families import PIPELINES
from tests.models.adapters.making import lora_weights, network_of, save_peft
from tests.models.test_ip_adapter import save_adapter
from tests.tiny import moving_square, save_tiny_controlnet, save_tiny_setup, tiny_pipeline
from tests.tiny_flux import save_tiny_flux_controlnet
from tests.tiny_sana import save_tiny_sana_controlnet
from tokenflow.config import Config, ControlNet, LoRA, load_config
from tokenflow.errors import ConfigError, TokenflowWarning
from tokenflow.models.loading import load_model
from tokenflow.pipeline import memory
from tokenflow.pipeline.memory import MemoryEstimate, check_memory, estimate_memory
from tokenflow.report.live_bytes import LiveBytes

FRAMES, STEPS, SIDE = 12, 2, 32
WEIGHTS = "diffusion_pytorch_model.safetensors"
MINI_SD = Path(__file__).parents[2] / "data" / "models" / "mini-sd"


def configured(model: Path, **edit: Any) -> Config:
    return Config.model_validate(
        {
            "clip": {"path": "clip.mp4", "prompt": "a dog"},
            "model": {"path": str(model), "device": "cpu", "dtype": "float32"},
            "inversion": {"steps": STEPS},
            "edit": {"prompt": "a cat", "steps": STEPS, **edit},
            "output": {"dir": "out"},
        }
    )


def counted(model: Path, edit: dict[str, Any], loras: Sequence[LoRA] = ()) -> int:
    """Bytes at the peak of an inversion and an edit, of all tensors but the model's weights."""
    loaded = load_model(model, device="cpu", dtype="float32", loras=loras)
    clip = tokenflow.Video(moving_square(FRAMES, SIDE, SIDE), rate=8)
    if "mode" in edit:
        loaded.load_control(edit["mode"].path)
    with LiveBytes() as live:
        inverted = tokenflow.invert(clip, loaded, "a dog", size=SIDE, cuts=(), steps=STEPS)
        tokenflow.edit(inverted, "a cat", steps=STEPS, **edit)
    return live.peak


def estimated(config: Config) -> MemoryEstimate:
    estimate = estimate_memory(config, FRAMES, (SIDE, SIDE))
    assert estimate is not None
    return estimate


@pytest.mark.parametrize("family", PIPELINES)
def test_the_estimate_is_what_is_counted_on_the_real_model_within_a_fifth(
    family: str, families: dict[str, Path]
) -> None:
    estimate = estimated(configured(families[family]))
    assert max(estimate.stages.values()) == pytest.approx(counted(families[family], {}), rel=0.2)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_an_autoencoder_that_works_in_float32_counts_so(dtype: str, families: dict[str, Path]) -> None:
    config = configured(families["xl"])
    half, full = (
        estimated(config.model_copy(update={"model": config.model.model_copy(update={"dtype": each})}))
        for each in (dtype, "float32")
    )
    share = 1 if dtype == "float16" else 0.5  # bfloat16 has the range that this autoencoder needs
    assert half.weights["vae"] == share * full.weights["vae"]
    assert half.weights["unet"] == 0.5 * full.weights["unet"]


@pytest.mark.parametrize("family", ["sd", "flux", "flux2"])
@pytest.mark.parametrize("kind", ["identity", "style"])
def test_references_count_within_a_fifth(kind: str, family: str, tmp_path: Path, families: dict[str, Path]) -> None:
    Image.fromarray(moving_square(1, SIDE, SIDE)[0]).save(tmp_path / "square.png")
    edit = {"references": [{"path": str(tmp_path / "square.png"), "kind": kind}] * 6}
    estimate, plain = (estimated(configured(families[family], **each)) for each in (edit, {}))
    assert estimate.stages["edit"] > 1.1 * plain.stages["edit"]
    assert max(estimate.stages.values()) == pytest.approx(counted(families[family], edit), rel=0.2)


CONTROLNETS: dict[str, Callable[[Path], Path]] = {
    "sd": save_tiny_controlnet,
    "sana": save_tiny_sana_controlnet,
    "flux": save_tiny_flux_controlnet,
}


@pytest.mark.parametrize("family", CONTROLNETS)
def test_a_controlnet_counts_within_a_fifth(family: str, tmp_path: Path, families: dict[str, Path]) -> None:
    path = CONTROLNETS[family](tmp_path / "control")
    edit = {"mode": "controlnet", "controlnet": {"path": str(path), "also": [{"path": str(path), "detector": "depth"}]}}
    estimate = estimated(configured(families[family], **edit))
    assert estimate.beside == sum(weight.nbytes for weight in load_file(path / WEIGHTS).values())
    for offload in (False, True):
        alone = replace(estimate, offload=offload)
        assert replace(alone, beside=0).peak == alone.peak - estimate.beside
    edit["controlnet"] = {"path": str(path)}
    estimate = estimated(configured(families[family], **edit))
    expected = counted(families[family], {"mode": ControlNet(path=str(path))})
    assert max(estimate.stages.values()) == pytest.approx(expected, rel=0.2)


def test_a_controlnet_in_a_file_counts_as_one_in_a_folder(tmp_path: Path, families: dict[str, Path]) -> None:
    folder = save_tiny_controlnet(tmp_path / "control")
    file = (folder / WEIGHTS).rename(tmp_path / "canny.safetensors")
    assert estimate_memory(controlled(families["sd"], folder / "missing"), FRAMES, (SIDE, SIDE)) is None
    of_folder, of_file = (estimated(controlled(families["sd"], each)) for each in (folder, file))
    assert of_file == of_folder


def controlled(model: Path, path: Path) -> Config:
    return configured(model, mode="controlnet", controlnet={"path": str(path)})


@pytest.mark.parametrize("family", ["sd", "flux"])
def test_a_lora_counts_within_a_fifth(family: str, tmp_path: Path, families: dict[str, Path]) -> None:
    pipeline = PIPELINES[family]()
    part = network_of(pipeline)
    lora = LoRA(path=str(save_peft(tmp_path / "lora", lora_weights(pipeline, part), alpha=2)))
    plain = configured(families[family])
    config = plain.model_copy(update={"model": plain.model.model_copy(update={"loras": [lora]})})
    estimate = estimated(config)
    added = estimate.weights[part] - estimated(plain).weights[part]
    assert added == sum(weight.nbytes for weight in load_file(tmp_path / "lora" / "adapter_model.safetensors").values())
    assert max(estimate.stages.values()) == pytest.approx(counted(families[family], {}, [lora]), rel=0.2)


def test_nothing_is_told_of_a_lora_that_is_not_here(families: dict[str, Path]) -> None:
    plain = configured(families["sd"])
    missing = plain.model.model_copy(update={"loras": [LoRA(path="someone/lora")]})
    assert estimate_memory(plain.model_copy(update={"model": missing}), FRAMES, (SIDE, SIDE)) is None


def test_an_ip_adapter_counts_with_its_image_encoder(tmp_path: Path, families: dict[str, Path]) -> None:
    adapter = save_adapter(tmp_path / "adapter", tiny_pipeline().unet)
    edit = {"ip_adapter": str(adapter), "references": [{"path": str(tmp_path / "tiger.png")}]}
    encoder = adapter.parent / "image_encoder" / "model.safetensors"
    weights = [weight for file in (adapter, encoder) for weight in load_file(file).values()]
    assert estimated(configured(families["sd"], **edit)).beside == sum(weight.nbytes for weight in weights)
    encoder.unlink()
    assert estimate_memory(configured(families["sd"], **edit), FRAMES, (SIDE, SIDE)) is None


def test_prompts_of_regions_count(families: dict[str, Path]) -> None:
    regions = [{"words": "dog", "prompt": "a cat"}, {"words": "a", "prompt": "a car"}]
    estimate, plain = (estimated(configured(families["sd"], **each)) for each in ({"regions": regions}, {}))
    assert estimate.stages["edit"] > 1.3 * plain.stages["edit"]


@pytest.mark.parametrize("family", ["mini-sd", "flux"])
def test_quantised_weights_count_as_they_are_stored(family: str, families: dict[str, Path]) -> None:
    path = MINI_SD if family == "mini-sd" else families[family]
    kinds = {"quantization": "int8", "text_encoder_quantization": "int8"}
    plain = configured(path)
    estimate = estimated(plain.model_copy(update={"model": plain.model.model_copy(update=kinds)}))
    model = load_model(path, device="cpu", dtype="float32", **kinds)
    assert estimate.all_weights < 0.95 * estimated(plain).all_weights
    assert estimate.all_weights == pytest.approx(model.weight_bytes, rel=0.1)


def test_settings_that_save_memory_lower_the_estimate(families: dict[str, Path]) -> None:

    def peak(size: int, **edit: Any) -> MemoryEstimate:
        estimate = estimate_memory(configured(families["sd"], **edit), 24, (size, size))
        assert estimate is not None
        return estimate

    whole = peak(32)
    assert peak(32, keyframe_window=2, batch_size=2).stages["edit"] < whole.stages["edit"] < peak(64).stages["edit"]
    offloaded = replace(whole, offload=True)
    assert offloaded.peak < whole.peak


def test_nothing_is_told_of_a_model_that_is_not_here() -> None:
    assert estimate_memory(configured(Path("somebody/model")), 24, (32, 32)) is None


@pytest.fixture
def setup(tmp_path: Path) -> Config:
    return load_config(save_tiny_setup(tmp_path, 5, 2))


def test_too_little_memory_is_said_before_the_work(setup: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "device_memory", lambda config: 10**5)
    with pytest.warns(
        TokenflowWarning, match=r"takes about .* of main memory, which has 100 kB; set model.offload=true"
    ):
        check_memory(setup)
    monkeypatch.setattr(memory, "choose_device", lambda name: type("Device", (), {"type": "cuda"}))
    monkeypatch.setattr(tokenflow.pipeline.job, "open_model", lambda *_: pytest.fail("the model was loaded"))
    with pytest.raises(ConfigError, match="of the device's memory"):
        tokenflow.run(setup)
    assert not setup.output.dir.exists()


def test_nothing_is_counted_where_memory_is_ample(setup: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "estimate_memory", lambda *_: pytest.fail("it was counted"))
    check_memory(setup)


def test_a_real_value_passes_a_count_unchanged() -> None:
    with LiveBytes() as counted:
        kept = tokenflow.Video(np.zeros((2, 4, 4, 3), np.uint8), rate=1)
    assert counted.peak == 0
    assert len(kept) == 2
