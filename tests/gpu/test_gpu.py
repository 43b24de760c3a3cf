"""What only a graphics card can show: edits there equal those of the CPU, half precision is close, offloading saves."""

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from torch._dynamo.utils import counters

import tokenflow
from tests.tiny import (
    moving_square,
    save_tiny_controlnet,
    save_tiny_model,
    save_tiny_setup,
    tiny_pipeline,
    tiny_xl_pipeline,
)
from tokenflow.errors import ConfigError
from tokenflow.models.model import Model
from tokenflow.models.quantization import KINDS, quantised_layers

CARD = "cuda"
FRAMES = 5

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
]


@pytest.fixture(autouse=True)
def full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions in float32 as on the CPU; by default cuDNN rounds their inputs to 10 bits."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny models of both families, and a ControlNet."""
    folder = tmp_path_factory.mktemp("models")
    save_tiny_model(folder / "sd")
    save_tiny_controlnet(folder / "controlnet")
    tiny_xl_pipeline().save_pretrained(folder / "xl", safe_serialization=True)
    return folder


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with layers of 1024 and 4096 channels, which int4 holds without padding."""
    pipeline = tiny_pipeline(levels=2)
    torch.manual_seed(0)
    widths = {"block_out_channels": (1024, 64), "attention_head_dim": 16}
    unet = UNet2DConditionModel.from_config({**pipeline.unet.config, **widths})
    unet.conv_out.weight.data *= 0.2
    pipeline.unet = unet
    folder = tmp_path_factory.mktemp("models") / "wide"
    pipeline.save_pretrained(folder)
    return folder


def mode_of(name: str, saved: Path) -> Any:
    if name == "controlnet":
        return tokenflow.ControlNet(path=str(saved / "controlnet"))
    return {"pnp": tokenflow.PnP, "sdedit": tokenflow.SDEdit}[name]()


def edited(model: Model, **settings: Any) -> np.ndarray:
    """A clip edited in four steps, f H W 3."""
    video = tokenflow.Video(moving_square(FRAMES), rate=10)
    inverted = tokenflow.invert(video, model, "a dog", size=16, steps=4)
    return tokenflow.edit(inverted, "a golden tiger", keyframe_interval=2, **settings).decoded.astype(int)


@pytest.mark.parametrize("mode", ["pnp", "sdedit", "controlnet"])
@pytest.mark.parametrize(
    "how",
    [{"correspondence": "flow"}, {"correspondence": "nearest"}, {"propagation": "none"}],
    ids=["flow", "nearest", "per frame"],
)
def test_an_edit_equals_the_cpus(mode: str, how: dict[str, Any], saved: Path) -> None:
    on_cpu, on_card = (
        edited(tokenflow.load_model(saved / "sd", device=device, dtype="float32"), mode=mode_of(mode, saved), **how)
        for device in ("cpu", CARD)
    )
    # Sums in another order change a value by one level where it is rounded, and a match where two are equally good.
    assert np.abs(on_cpu - on_card).mean() < 0.5


def test_an_edit_with_sdxl_equals_the_cpus(saved: Path) -> None:
    on_cpu, on_card = (
        edited(tokenflow.load_model(saved / "xl", device=device, dtype="float32")) for device in ("cpu", CARD)
    )
    assert np.abs(on_cpu - on_card).mean() < 0.5


@pytest.mark.parametrize("family", ["sd", "xl"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_close_to_full(family: str, dtype: str, saved: Path) -> None:
    full, half = (edited(tokenflow.load_model(saved / family, device=CARD, dtype=each)) for each in ("float32", dtype))
    # bfloat16 keeps 8 bits, through four steps of the network and a guidance of 4.
    assert np.abs(full - half).mean() < 8


@pytest.mark.parametrize("mode", ["pnp", "controlnet"])
def test_offloading_takes_less_memory_and_gives_the_same(mode: str, saved: Path) -> None:
    edits, peaks = [], []
    for offload in (False, False, True):  # the first one also allocates the libraries' workspaces
        gc.collect()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        model = tokenflow.load_model(saved / "sd", device=CARD, dtype="float32", offload=offload)
        edits.append(edited(model, mode=mode_of(mode, saved)))
        peaks.append(torch.cuda.max_memory_allocated() - before)
        del model
    assert peaks[2] < peaks[1]
    assert np.abs(edits[1] - edits[2]).mean() < 0.5


def test_a_compiled_edit_is_close_and_compiles_nothing_more_for_the_next(saved: Path) -> None:
    plain, compiled = (
        tokenflow.load_model(saved / "sd", device=CARD, dtype="float32", compile=each) for each in (False, True)
    )
    assert np.abs(edited(plain) - edited(compiled)).mean() < 0.5
    graphs = counters["stats"]["unique_graphs"]
    edited(compiled)
    assert counters["stats"]["unique_graphs"] == graphs > 0


@pytest.mark.parametrize("offload", [False, True], ids=["", "offload"])
@pytest.mark.parametrize(("kind", "bits"), [("int8", 8.1), ("fp8", 8.1), ("int4", 4.6)])
def test_a_quantised_edit_is_close_to_full_precisions(kind: str, bits: float, offload: bool, wide: Path) -> None:
    options: dict[str, Any] = {"device": CARD, "dtype": "bfloat16", "offload": offload}
    full, small = (tokenflow.load_model(wide, quantization=each, **options) for each in (None, kind))
    layers = [small.network.get_submodule(name) for name in quantised_layers(small.network, KINDS[kind])]
    weights = sum(layer.weight.numel() for layer in layers)
    assert layers
    assert (full.weight_bytes - small.weight_bytes) >= (16 - bits) / 8 * weights
    assert 0 < np.abs(edited(full) - edited(small)).mean() < 16


@pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.get_device_capability() >= (10, 0), reason="such a card has nvfp4"
)
def test_nvfp4_is_refused_by_other_cards(wide: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs a CUDA device of compute capability 10\.0 or higher"):
        tokenflow.load_model(wide, device=CARD, quantization="nvfp4")


def test_generated_images_equal_the_cpus(saved: Path) -> None:
    on_cpu, on_card = (
        tokenflow.generate(
            tokenflow.load_model(saved / "sd", device=device, dtype="float32"), "a dog", size=(24, 16), steps=4
        ).astype(int)
        for device in ("cpu", CARD)
    )
    assert np.abs(on_cpu - on_card).mean() < 0.5


def test_a_run_reports_the_cards_memory(tmp_path: Path) -> None:
    config = tokenflow.load_config(save_tiny_setup(tmp_path, FRAMES, 4), [f"model.device={CARD}"])
    report = tokenflow.run(config).report
    assert report["peak_gpu_memory_mb"] > 0
    assert set(report["stage_peak_gpu_memory_mb"]) == set(report["seconds"])
