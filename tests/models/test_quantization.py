import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from diffusers.models.attention_processor import Attention
from peft import LoraConfig, inject_adapter_in_model
from torch import nn
from torchao.prototype.mx_formats import inference_workflow
from torchao.utils import TorchAOBaseTensor

from tests.families import PIPELINES
from tests.models.adapters.making import lora_weights, network_of, save_peft
from tests.tiny import tiny_pipeline
from tokenflow.config import LoRA
from tokenflow.errors import ConfigError
from tokenflow.models.attention import Site, per_frame_attention
from tokenflow.models.identity import weights_fingerprint
from tokenflow.models.loading import load_model, stored_fingerprint
from tokenflow.models.patching import patched
from tokenflow.models.processors import OverrideProcessor
from tokenflow.models.quantization import (
    KINDS,
    Quantization,
    quantise,
    quantised_layers,
    stored_tensors,
    weight_bytes,
)
from tokenflow.models.unet import UNetAttention

CPU, CARD = torch.device("cpu"), torch.device("cuda")
BLOCKS = ("down_blocks.", "mid_block.", "up_blocks.", "transformer_blocks.", "single_transformer_blocks.")
OF_TEXT = ("text_model.encoder.layers.", "encoder.layers.", "encoder.block.", "layers.", "model.layers.")


def replaced(network: nn.Module) -> list[str]:
    """The layers whose weights torchao holds."""
    linears = ((name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Linear))
    return [name for name, layer in linears if isinstance(layer.weight, TorchAOBaseTensor)]


@pytest.mark.parametrize("family", PIPELINES)
@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_every_linear_layer_in_the_blocks_is_replaced_and_none_outside_of_them(kind: str, family: str) -> None:
    pipeline = PIPELINES[family]()
    networks = [getattr(pipeline, name) for name in (network_of(pipeline), "text_encoder")]
    for network, blocks in zip(networks, (BLOCKS, OF_TEXT), strict=True):
        linears = [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
        quantise(network, KINDS[kind])
        assert replaced(network) == [
            name for name in linears if name.startswith(blocks) and not name.endswith("time_emb_proj")
        ]
        assert replaced(network)
        assert not any("time" in name or name in ("proj_out", "lm_head", "x_embedder") for name in replaced(network))


@pytest.mark.parametrize(
    ("kind", "width", "out", "fits"),
    [
        ("int8", 8, 8, True),
        ("fp8", 8, 8, True),
        ("int4", 320, 320, False),  # padded to 1024
        ("int4", 640, 640, True),
        ("int4", 3072, 9216, True),
        ("int4", 1000, 640, False),  # no whole groups
        ("nvfp4", 320, 320, True),
        ("nvfp4", 328, 320, False),
        ("nvfp4", 320, 328, False),
    ],
)
def test_widths_that_a_kind_cannot_hold_stay_as_they_are(kind: str, width: int, out: int, fits: bool) -> None:
    network = nn.Module()
    network.blocks = nn.ModuleList([nn.Linear(width, out)])
    assert quantised_layers(network, KINDS[kind]) == ["blocks.0"] * fits


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_hold_the_blocks_of_a_published_flux(kind: str) -> None:
    with torch.device("meta"):
        network = FluxTransformer2DModel(guidance_embeds=True)
    layers = quantised_layers(network, KINDS[kind])
    weights = sum(network.get_submodule(name).weight.numel() for name in layers)
    assert weights > 0.99 * sum(weight.numel() for weight in network.parameters())


@pytest.fixture
def blackwell(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU would answer, for weights without values (torch's meta device)."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (10, 0))
    monkeypatch.setattr(inference_workflow, "is_sm_at_least_100", lambda: True)

    def int4_product(tokens: torch.Tensor, packed: torch.Tensor, *_: Any) -> torch.Tensor:
        return tokens.new_empty(len(tokens), 8 * packed.shape[0])

    monkeypatch.setattr(torch.ops.aten, "_weight_int4pack_mm", int4_product)  # there is no such kernel


@pytest.mark.parametrize(("kind", "share"), [("int8", 0.51), ("fp8", 0.51), ("int4", 0.29), ("nvfp4", 0.29)])
@pytest.mark.usefixtures("blackwell")
def test_loras_and_processors_call_the_layers_of_every_kind(kind: str, share: float) -> None:
    with torch.device("meta"):
        layer = Attention(query_dim=1024, heads=8, dim_head=128)
    network = nn.Module()
    network.blocks = nn.ModuleList([layer]).to(torch.bfloat16)
    full = weight_bytes([network])
    quantise(network, KINDS[kind])
    assert len(replaced(network)) == 4
    assert weight_bytes([network]) < share * full
    with pytest.warns(UserWarning, match="merge"):
        inject_adapter_in_model(LoraConfig(r=2, target_modules=["to_q", "to_v"]), network)
    called: list[str] = []
    for name in ("to_q", "to_k", "to_v", "to_q.base_layer", "to_q.lora_A.default"):
        network.blocks[0].get_submodule(name).register_forward_hook(lambda *_, name=name: called.append(name))
    tokens = torch.empty(2, 64, 1024, dtype=torch.bfloat16, device="meta")
    processor = OverrideProcessor(Site("blocks.0", 1), UNetAttention, per_frame_attention())
    with patched({network.blocks[0]: processor}):
        assert network.blocks[0](tokens).shape == tokens.shape
    assert sorted(called) == sorted(["to_q", "to_k", "to_v", "to_q.base_layer", "to_q.lora_A.default"])


@pytest.mark.parametrize("family", PIPELINES)
@pytest.mark.parametrize(("kind", "error"), [("int8", 0.01), ("fp8", 0.05)])
def test_a_quantised_model_is_smaller_and_predicts_nearly_the_same(
    kind: str, error: float, family: str, families: dict[str, Path]
) -> None:
    options: dict[str, Any] = {"device": "cpu", "dtype": "float32"}
    full, small = (
        load_model(families[family], **options, quantization=each, text_encoder_quantization=each)
        for each in (None, kind)
    )
    assert small.weight_bytes < full.weight_bytes
    latents = torch.randn(2, full.latent_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    level = full.schedule.steps(4, tokens=64)[1].at
    expected, found = (each.predict(latents, level, each.condition("a dog", negative=True)) for each in (full, small))
    assert 0 < (found - expected).norm() < error * expected.norm()


@pytest.mark.parametrize(
    ("kind", "family", "dora"),
    [("int8", "sd", True), ("fp8", "xl", False), ("int8", "sana", False), ("int8", "flux", False)],
)
def test_a_lora_acts_on_top(kind: str, family: str, dora: bool, families: dict[str, Path], tmp_path: Path) -> None:
    pipeline = PIPELINES[family]()
    file = save_peft(tmp_path / "lora", lora_weights(pipeline, network_of(pipeline), dora=dora), alpha=2)
    full, small = (
        load_model(families[family], device="cpu", dtype="float32", quantization=each, loras=[LoRA(path=str(file))])
        for each in (None, kind)
    )
    latents = torch.randn(2, full.latent_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    level = full.schedule.steps(4, tokens=64)[1].at
    models = (full, small, small.base)
    expected, found, off = (each.predict(latents, level, each.condition("a dog", negative=True)) for each in models)
    assert (found - expected).norm() < 0.2 * (off - expected).norm()


def test_inversions_of_other_quantisations_are_told_apart(families: dict[str, Path]) -> None:
    kinds: list[dict[str, Any]] = [
        {},
        {"quantization": "int8"},
        {"quantization": "fp8"},
        {"text_encoder_quantization": "int8"},
        {"quantization": "int8", "text_encoder_quantization": "int8"},
    ]
    options: dict[str, Any] = {"device": "cpu", "dtype": "float32"}
    found = [load_model(families["sd"], **options, **kind).fingerprint for kind in kinds]
    assert len({*found}) == len(kinds)
    assert found == [stored_fingerprint(str(families["sd"]), **options, **kind) for kind in kinds]


def test_the_fingerprint_of_weights_in_memory_changes_with_their_quantisation() -> None:
    plain, small, again = (tiny_pipeline().unet for _ in range(3))
    quantise(small, KINDS["int8"])
    quantise(again, KINDS["int8"])
    assert weights_fingerprint([plain]) != weights_fingerprint([small]) == weights_fingerprint([again])


def test_bytes_are_those_of_numbers_and_scales() -> None:
    network = nn.Module()
    network.blocks = nn.ModuleList([nn.Linear(32, 16)])
    assert weight_bytes([network, network]) == 4 * (32 * 16 + 16)  # those of a network that is named twice once
    quantise(network, KINDS["int8"])
    kept = {(part.dtype, part.numel()) for part in stored_tensors(network.blocks[0].weight)}
    assert {(torch.int8, 32 * 16), (torch.float32, 16)} <= kept
    assert 32 * 16 < weight_bytes([network]) < 1.5 * 32 * 16


@pytest.mark.parametrize(
    ("kind", "capability", "said"),
    [
        (
            "int4",
            (7, 5),
            r"model\.quantization int4 needs a CUDA device of compute capability 8\.0 or higher, got cuda ",
        ),
        ("nvfp4", (9, 0), r"nvfp4 needs a CUDA device of compute capability 10\.0 or higher, got cuda of 9\.0; set it"),
    ],
)
def test_a_gpu_that_is_too_old_is_refused(
    kind: str, capability: tuple[int, int], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    with pytest.raises(ConfigError, match=said):
        Quantization(kind).dtype("auto", CARD)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (12, 0))
    assert Quantization(kind).dtype("auto", CARD) == "bfloat16"
    with pytest.raises(ConfigError, match=rf"{kind} needs model\.dtype bfloat16, got float16; set it so, or to auto"):
        Quantization(None, kind).dtype("float16", CARD)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"quantization": "int4"}, r"model\.quantization int4 needs a CUDA device .*, got cpu; set it to int8"),
        ({"text_encoder_quantization": "nvfp4"}, r"model\.text_encoder_quantization nvfp4 needs .*10\.0 .*, got cpu"),
        ({"quantization": "int2"}, r"model\.quantization is 'int2'; expected int8, fp8, int4, nvfp4, or none"),
    ],
)
def test_what_the_device_does_not_have_is_refused_before_loading(options: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        load_model("no such model", device="cpu", **options)
    assert "\n" not in str(caught.value)


def test_without_torchao_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao", None)
    with pytest.raises(ConfigError, match=r'needs torchao; install it with: pip install "tokenflow\[quantization\]"'):
        Quantization("int8").dtype("auto", CPU)
    assert Quantization().dtype("auto", CPU) == "auto"
