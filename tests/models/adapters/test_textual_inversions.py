from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.tiny import tiny_pipeline, tiny_xl_pipeline
from tokenflow.config import TextualInversion
from tokenflow.errors import ModelError
from tokenflow.models.adapters.textual_inversions import load_textual_inversions
from tokenflow.models.loading import load_model

WIDTH = 16
"""Of the tiny model's token embeddings."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("vectors", [1, 3])
def test_the_word_stands_for_what_it_learnt(vectors: int, saved: Path, tmp_path: Path) -> None:
    learnt = torch.randn(vectors, WIDTH, generator=torch.Generator().manual_seed(0))
    save_file({"emb_params": learnt}, tmp_path / "toy.safetensors")
    inversion = TextualInversion(path=str(tmp_path / "toy.safetensors"), token="<toy>")
    model = load_model(saved, device="cpu", dtype="float32", textual_inversions=[inversion])
    pipeline = tiny_pipeline()
    pipeline.load_textual_inversion({"emb_params": learnt}, token="<toy>")
    expected, _ = pipeline.encode_prompt("a <toy>", "cpu", 1, False)
    assert torch.equal(model.condition("a <toy>").tokens, expected)
    weighted = model.condition("a (<toy>:1.5)").tokens
    moved = (weighted - expected).abs().amax(-1)[0] > 1e-4
    assert moved.nonzero().flatten().tolist() == list(range(2, 2 + vectors))
    plain = load_model(saved, device="cpu", dtype="float32")
    assert model.base.fingerprint != plain.fingerprint
    assert torch.equal(model.condition("a dog").tokens, plain.condition("a dog").tokens)


def test_sdxl_learns_it_in_both_encoders(tmp_path: Path) -> None:
    tiny_xl_pipeline().save_pretrained(tmp_path / "xl")
    save_file({"clip_l": torch.ones(1, 16), "clip_g": torch.ones(1, 24)}, tmp_path / "toy.safetensors")
    inversion = TextualInversion(path=str(tmp_path / "toy.safetensors"))
    model = load_model(tmp_path / "xl", device="cpu", dtype="float32", textual_inversions=[inversion])
    plain = load_model(tmp_path / "xl", device="cpu", dtype="float32")
    for part in (slice(0, 16), slice(16, 40)):
        assert (model.condition("toy").tokens - plain.condition("toy").tokens)[..., part].abs().max() > 1e-4


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"emb_params": (1, 16)}, r"has emb_params; expected clip_l and clip_g"),
        ({"clip_l": (3, 16), "clip_g": (1, 24)}, r"has 3 vectors for the first text encoder and 1 for the second"),
        ({"lora_unet_x.lora_down.weight": (2, 16)}, r"is a LoRA; set model.loras to it"),
    ],
)
def test_sdxl_needs_a_word_for_both_encoders(weights: dict[str, tuple[int, ...]], message: str, tmp_path: Path) -> None:
    tiny_xl_pipeline().save_pretrained(tmp_path / "xl")
    save_file({key: torch.zeros(shape) for key, shape in weights.items()}, tmp_path / "toy.safetensors")
    inversion = TextualInversion(path=str(tmp_path / "toy.safetensors"), token="<toy>")
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path / "xl", device="cpu", dtype="float32", textual_inversions=[inversion])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"clip_l": (1, 16), "clip_g": (1, 24)}, r"was made for SDXL"),
        ({"<a>": (16,), "<b>": (16,)}, r"has <a>, <b>; expected one word"),
    ],
)
def test_a_file_of_something_else_is_refused(
    weights: dict[str, tuple[int, ...]], message: str, saved: Path, tmp_path: Path
) -> None:
    save_file({key: torch.zeros(shape) for key, shape in weights.items()}, tmp_path / "toy.safetensors")
    inversion = TextualInversion(path=str(tmp_path / "toy.safetensors"))
    with pytest.raises(ModelError, match=message):
        load_model(saved, device="cpu", dtype="float32", textual_inversions=[inversion])


def test_a_word_in_the_file_is_known_by_that_name(saved: Path, tmp_path: Path) -> None:
    learnt = torch.randn(1, WIDTH, generator=torch.Generator().manual_seed(0))
    save_file({"<cat-toy>": learnt}, tmp_path / "file.safetensors")
    pipeline = tiny_pipeline()
    assert load_textual_inversions(pipeline, [TextualInversion(path=str(tmp_path / "file.safetensors"))]) == [
        "<cat-toy>"
    ]
    assert "<cat-toy>" in pipeline.tokenizer.get_vocab()


def test_one_of_another_model_is_refused(saved: Path, tmp_path: Path) -> None:
    save_file({"emb_params": torch.zeros(1, 768)}, tmp_path / "toy.safetensors")
    inversion = TextualInversion(path=str(tmp_path / "toy.safetensors"))
    with pytest.raises(ModelError, match=r"the textual inversion .* does not fit the model"):
        load_model(saved, device="cpu", dtype="float32", textual_inversions=[inversion])
