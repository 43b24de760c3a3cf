"""FLUX transformers in GGUF files, with everything else from a folder."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.quantizers.gguf.utils import GGUFLinear
from gguf import GGMLQuantizationType, GGUFWriter, quantize
from torch import Tensor

from tests.models.adapters.making import lora_weights, save_peft
from tests.tiny_flux import tiny_flux_pipeline
from tokenflow.config import LoRA
from tokenflow.errors import ConfigError, ModelError, ModelNotFoundError
from tokenflow.models.loading import load_model, stored_fingerprint
from tokenflow.models.model import Model

LATENTS = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
WIDE: dict[str, Any] = {"attention_head_dim": 16, "axes_dims_rope": (4, 6, 6)}
"""Widths of 32, as many as share a scale in Q8_0."""


def save_gguf(file: Path, weights: dict[str, Tensor]) -> Path:
    """As published files are: matrices in Q8_0, all else in float32."""
    writer = GGUFWriter(file, "flux")
    for name, weight in weights.items():
        fits = weight.ndim == 2 and weight.shape[1] % 32 == 0
        kind = GGMLQuantizationType.Q8_0 if fits else GGMLQuantizationType.F32
        writer.add_tensor(name, quantize(weight.float().numpy(), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    pipeline = tiny_flux_pipeline(**WIDE)
    pipeline.save_pretrained(folder / "dev")
    save_gguf(folder / "dev-Q8_0.GGUF", pipeline.transformer.state_dict())
    return folder


def loaded(path: Path, **options: Any) -> Model:
    return load_model(path, device="cpu", dtype="float32", **options)


def flow(model: Model) -> Tensor:
    return model.predict(LATENTS, model.schedule.steps(3, tokens=16)[1].at, model.condition("a dog"))


def test_its_weights_stay_quantised_and_predict_nearly_the_same(saved: Path) -> None:
    file = saved / "dev-Q8_0.GGUF"
    full, small = loaded(saved / "dev"), loaded(file, base=str(saved / "dev"))
    linears = [layer for layer in small.network.modules() if isinstance(layer, GGUFLinear)]
    assert sum(layer.weight.dtype == torch.uint8 for layer in linears) > 20
    assert small.weight_bytes < 0.6 * full.weight_bytes
    expected = flow(full)
    assert 0 < (flow(small) - expected).norm() < 0.01 * expected.norm()
    assert stored_fingerprint(str(file), device="cpu", dtype="float32", base=str(saved / "dev")) == small.fingerprint


def test_a_file_of_other_content_has_another_fingerprint(saved: Path, tmp_path: Path) -> None:
    weights = {name: 2 * weight for name, weight in tiny_flux_pipeline(**WIDE).transformer.state_dict().items()}
    other = save_gguf(tmp_path / "dev-Q8_0.GGUF", weights)
    assert stored_fingerprint(str(other), device="cpu") != stored_fingerprint(
        str(saved / "dev-Q8_0.GGUF"), device="cpu"
    )


def test_a_lora_acts_on_top(saved: Path, tmp_path: Path) -> None:
    pipeline = tiny_flux_pipeline(**WIDE)
    lora = LoRA(path=str(save_peft(tmp_path / "lora", lora_weights(pipeline, "transformer"), alpha=2)))
    full, small = (
        loaded(saved / "dev", loras=[lora]),
        loaded(saved / "dev-Q8_0.GGUF", base=str(saved / "dev"), loras=[lora]),
    )
    expected = flow(full)
    assert (flow(small) - expected).norm() < 0.2 * (flow(full.base) - expected).norm()


def test_other_files_are_refused_in_one_line(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "damaged.gguf").write_bytes(b"GGUF")
    save_gguf(tmp_path / "other.gguf", {"token_embd.weight": torch.ones(4, 32)})
    save_gguf(tmp_path / "unet.gguf", {"input_blocks.0.0.bias": torch.ones(32)})
    whole = saved / "dev-Q8_0.GGUF"
    cases: list[tuple[Path, dict[str, Any], type[Exception], str]] = [
        (tmp_path / "missing.gguf", {}, ModelNotFoundError, "the model file .* was not found"),
        (tmp_path / "damaged.gguf", {}, ModelError, "expected a whole GGUF file"),
        (tmp_path / "other.gguf", {}, ModelError, "has no transformer of Sana or FLUX"),
        (tmp_path / "unet.gguf", {}, ModelError, r"UNets are read from \.safetensors only"),
        (whole, {}, ModelError, r"without text encoder and VAE; set model\.base"),
        (whole, {"quantization": "int8"}, ConfigError, r"as it is in its file; set model\.quantization to null"),
    ]
    for path, options, error, said in cases:
        with pytest.raises(error, match=said) as caught:
            loaded(path, **options)
        assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ModelError, match=r'needs the package gguf; install it with: pip install "tokenflow\['):
        loaded(whole)
