"""Which of a part's files are read, by their names, and what is said of those that another package quantised."""

import json
from pathlib import Path

import pytest
import torch

from tests.tiny import tiny_pipeline
from tokenflow.errors import ModelError
from tokenflow.models.checkpoints import weights
from tokenflow.models.checkpoints.weights import choose_variant, files_of_variant
from tokenflow.models.loading import load_model

STEM = "diffusion_pytorch_model"
PLAIN, HALF, BRAIN, NON_EMA, AVERAGED = (
    f"{STEM}{part}.safetensors" for part in ("", ".fp16", ".bf16", ".non_ema", ".ema")
)
SHARDS = [f"{STEM}-0000{number}-of-00002.safetensors" for number in (1, 2)]
SHARD_INDEX = f"{STEM}.safetensors.index.json"
HALF_SHARDS = [f"{STEM}.fp16-0000{number}-of-00002.safetensors" for number in (1, 2)]
HALF_INDEX = f"{STEM}.safetensors.index.fp16.json"
OLD_SHARDS = [f"{STEM}-0000{number}-of-00002.fp16.safetensors" for number in (1, 2)]
OLD_INDEX = f"{STEM}.safetensors.fp16.index.json"
OTHERS = ["config.json", "README.md", f"{STEM}.bin", f"{STEM}.fp16.bin", "flax_model.msgpack", "open_clip.safetensors"]


@pytest.mark.parametrize(
    ("files", "dtype", "wanted", "expected"),
    [
        ([PLAIN, HALF, NON_EMA], torch.float32, None, [PLAIN]),
        ([PLAIN, HALF, NON_EMA], torch.bfloat16, None, [PLAIN]),
        ([PLAIN, HALF, NON_EMA], torch.float16, None, [HALF]),
        ([PLAIN, HALF, NON_EMA], torch.float16, "non_ema", [NON_EMA]),
        ([PLAIN, NON_EMA], torch.float16, "fp16", [PLAIN]),
        ([HALF, BRAIN], torch.float32, None, [HALF]),
        ([BRAIN, NON_EMA], torch.float32, None, [BRAIN]),
        ([AVERAGED, HALF], torch.float32, None, [AVERAGED]),
        ([NON_EMA], torch.float32, None, [NON_EMA]),
        ([*SHARDS, SHARD_INDEX, *HALF_SHARDS, HALF_INDEX], torch.float32, None, [*SHARDS, SHARD_INDEX]),
        ([*SHARDS, SHARD_INDEX, *HALF_SHARDS, HALF_INDEX], torch.float16, None, [*HALF_SHARDS, HALF_INDEX]),
        ([*OLD_SHARDS, OLD_INDEX], torch.float32, None, [*OLD_SHARDS, OLD_INDEX]),
        (["model.fp16.safetensors", "pytorch_model.bin"], torch.float32, None, ["model.fp16.safetensors"]),
    ],
)
def test_one_variant_is_chosen_with_all_its_files(
    files: list[str], dtype: torch.dtype, wanted: str | None, expected: list[str]
) -> None:
    variant = choose_variant([*OTHERS, *files], wanted, dtype)
    assert variant is not None
    assert files_of_variant([*OTHERS, *files], variant) == expected


def test_nothing_is_chosen_where_there_are_no_weights() -> None:
    assert choose_variant(OTHERS, None, torch.float32) is None
    assert choose_variant(OTHERS, "fp16", torch.float32) is None


def quantised(folder: Path, part: str) -> Path:
    """A model whose config.json says that bitsandbytes quantised a part."""
    tiny_pipeline().save_pretrained(folder)
    file = folder / part / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    file.write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_without_bitsandbytes_what_it_quantised_is_refused_in_one_line(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    with pytest.raises(
        ModelError, match=rf"the {part} of .* not installed; install it with: pip install bits"
    ) as caught:
        load_model(quantised(tmp_path, part), device="cpu")
    assert "\n" not in str(caught.value)


def test_without_a_gpu_diffusers_is_not_asked_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "find_spec", lambda name: "found")
    monkeypatch.setattr(weights, "choose_device", lambda name: torch.device("cpu"))
    with pytest.raises(ModelError, match=r"reads on a GPU only, and this machine has none; set model\.path"):
        load_model(quantised(tmp_path, "unet"), device="cpu")
