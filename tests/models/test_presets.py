"""The table of published checkpoints: its figures are counted, and its names are taken where a model is named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import Flux2Transformer2DModel, FluxTransformer2DModel, SanaTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, Gemma2Config, Gemma2Model, T5Config, T5EncoderModel

from benchmarks.peak_memory import FakeModel
from benchmarks.random_models import SD15, SDXL, Family
from tokenflow.apps.models_list import mark, models_lines, row
from tokenflow.models.presets import PRESETS, Preset, Weights, full_name, similar_names
from tokenflow.models.quantization import KINDS, quantised_bytes, weight_bytes

BY_NAME = {preset.name: preset for preset in PRESETS}

SANA = {
    "attention_head_dim": 32,
    "cross_attention_head_dim": 112,
    "num_cross_attention_heads": 20,
    "cross_attention_dim": 2240,
    "caption_channels": 2304,
    "mlp_ratio": 2.5,
    "num_attention_heads": 70,
}

TRANSFORMERS: dict[str, Callable[[], Any]] = {
    "flux.1-dev": lambda: FluxTransformer2DModel(guidance_embeds=True),
    "flux.2-klein-4b": lambda: Flux2Transformer2DModel(
        num_layers=5, num_single_layers=20, num_attention_heads=24, joint_attention_dim=7680, guidance_embeds=False
    ),
    "flux.2-klein-9b": lambda: Flux2Transformer2DModel(
        num_layers=8, num_single_layers=24, num_attention_heads=32, joint_attention_dim=12288, guidance_embeds=False
    ),
    "sana-1.6b": lambda: SanaTransformer2DModel(num_layers=20, **SANA),
    "sana1.5-4.8b": lambda: SanaTransformer2DModel(num_layers=60, qk_norm="rms_norm_across_heads", **SANA),
}


TEXT_ENCODERS: dict[str, tuple[str, int, Callable[[], Any]]] = {
    "CLIP-L": (
        "sd1.5",
        0,
        lambda: CLIPTextModel(
            CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
        ),
    ),
    "T5": (
        "flux.1-dev",
        1,
        lambda: T5EncoderModel(
            T5Config(d_model=4096, d_ff=10240, num_layers=24, num_heads=64, feed_forward_proj="gated-gelu")
        ),
    ),
    "Gemma 2": ("sana-1.6b", 0, lambda: Gemma2Model(Gemma2Config())),
}


@pytest.mark.parametrize("name", TEXT_ENCODERS)
def test_so_are_those_of_text_encoders(name: str) -> None:
    preset, index, make = TEXT_ENCODERS[name]
    with torch.device("meta"):
        encoder = make()
    assert counted(encoder) == BY_NAME[preset].network.text_encoders[index]


def counted(network: Any) -> Weights:
    """Millions of weights in full, and as they are stored in fewer bits."""
    network = network.to(torch.bfloat16)
    full = sum(weight.numel() for weight in network.parameters()) / 1e6
    stored = weight_bytes([network])
    int8, int4 = (full + (quantised_bytes(network, KINDS[kind]) - stored) / 2e6 for kind in ("int8", "int4"))
    return Weights(round(full, 1), round(int8, 1), round(int4, 1))


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_weights_are_those_of_the_published_sizes(name: str) -> None:
    with torch.device("meta"):
        transformer = TRANSFORMERS[name]()
    network = BY_NAME[name].network
    assert counted(transformer) == network.denoiser
    config = transformer.config
    assert config.num_attention_heads * config.attention_head_dim == network.width
    assert config.num_layers + config.get("num_single_layers", 0) == network.layers


def test_memory_follows_the_documented_formula() -> None:
    network = BY_NAME["flux.2-klein-4b"].network
    preset = Preset("one", "some/one", "free", network, 4, None, branches=1)
    sequence = 2 * (4096 + 512) * 3072
    weights = 2e6 * (3875.5 + 4022.5 + 83.8)
    assert preset.memory() == weights + max(8 * 14 * sequence + 8 * 25 * sequence, 2_100 * 1024**2)
    assert preset.least_memory() == max(2e6 * 4022.5, 2e6 * 3875.5 + 2 * 14 * sequence)
    guided = BY_NAME["flux.2-klein-base-4b"]
    assert guided.memory() == weights + max(8 * 14 * 2 * sequence + 8 * 25 * sequence, 2_100 * 1024**2)
    assert preset.memory("int8") == preset.memory() - 2e6 * (3875.5 - 2035.3 + 4022.5 - 2205.8)
    assert all(each.least_memory() < each.memory() for each in PRESETS)
    assert all(each.memory("int4") < each.memory("int8") < each.memory() for each in PRESETS)


@pytest.mark.parametrize(("name", "family"), [("sd1.5", SD15), ("sdxl", SDXL)])
def test_memory_of_unets_is_what_is_counted_at_full_size_within_a_tenth(name: str, family: Family) -> None:
    side = BY_NAME[name].network.side
    assert BY_NAME[name].memory() == pytest.approx(FakeModel(family).peak_memory(side, side).total, rel=0.1)


def test_short_names_stand_for_hub_ids_unless_a_folder_is_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert full_name("FLUX.1-dev") == full_name("flux.1-dev") == "black-forest-labs/FLUX.1-dev"
    assert full_name("someone/flux.1-dev") == "someone/flux.1-dev"
    (tmp_path / "sdxl").mkdir()
    assert full_name("sdxl") == "sdxl"
    assert similar_names("flux2-klein-4b")[0] == "flux.2-klein-4b"
    assert not similar_names(full_name("flux.1-schnell"))
    assert len(BY_NAME) == len(PRESETS)


def test_the_documentation_has_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    for preset in PRESETS:
        line = next(line for line in page.splitlines() if line.startswith(f"| `{preset.name}` |"))
        assert [cell.strip(" `") for cell in line.strip("|").split("|")] == list(row(preset))


def test_what_fits_a_gpu_is_marked() -> None:
    klein = BY_NAME["flux.2-klein-4b"]
    assert [mark(klein, size) for size in (80 * 10**9, 12 * 10**9, 3 * 10**9, None)] == ["✓", "~", " ", " "]
    lines = models_lines(24 * 10**9)
    assert next(line for line in lines if "sd1.5" in line).startswith("✓ sd1.5")
    assert next(line for line in lines if "klein-9b" in line).startswith("~ flux.2-klein-9b")
    assert next(line for line in lines if " flux.1-dev" in line).startswith("~ flux.1-dev")  # in four bits
    assert all(line.startswith("  flux.1") for line in models_lines(6 * 10**9) if " flux.1-dev " in line)
    assert "24 GB" in lines[-1]
    assert "no GPU" in models_lines(None)[-1]
