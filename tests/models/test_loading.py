import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from huggingface_hub import utils as hub
from safetensors.torch import load_file, save_file

from tests.tiny import level, save_tiny_model
from tokenflow.errors import ModelError, ModelNotFoundError
from tokenflow.events import Event, Notice, Progress
from tokenflow.models.checkpoints.hub import WITHDRAWN
from tokenflow.models.loading import load_model, stored_fingerprint

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    """A copy that may be spoilt."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def weights(model: Path, part: str = "unet") -> Path:
    (file,) = (model / part).glob("*.safetensors")
    return file


def test_a_folder_is_loaded_as_it_was_saved(model: Path) -> None:
    loaded = load_model(model, device="cpu", dtype="float32")
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = DiffusionPipeline.from_pretrained(model, safety_checker=None, requires_safety_checker=False)
    prompt = loaded.condition("a dog")
    noise = expected.unet(latents, 500, encoder_hidden_states=prompt.tokens).sample
    # The same weights through the same kernels, but for how attention is written down.
    torch.testing.assert_close(loaded.predict(latents, level(500), prompt)[0], noise, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_model_is_loaded_in_the_precision_asked_for(dtype: str, model: Path) -> None:
    loaded = load_model(str(model), device="cpu", dtype=dtype)
    assert loaded.condition("a dog").tokens.dtype == getattr(torch, dtype)


def without(part: str) -> Callable[[Path], None]:
    return lambda model: shutil.rmtree(model / part)


def pickled(part: str) -> Callable[[Path], None]:
    def spoil(model: Path) -> None:
        weights(model, part).unlink()
        torch.save({}, model / part / "pytorch_model.bin")

    return spoil


def cut(part: str, share: float) -> Callable[[Path], None]:
    def spoil(model: Path) -> None:
        file = weights(model, part)
        file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])

    return spoil


def lacking(name: str, part: str = "unet") -> Callable[[Path], None]:
    def spoil(model: Path) -> None:
        kept = load_file(weights(model, part))
        assert kept.pop(name, None) is not None
        save_file(kept, weights(model, part), {"format": "pt"})

    return spoil


def overwritten(name: str, content: str) -> Callable[[Path], None]:
    def spoil(model: Path) -> None:
        (model / name).write_text(content)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (without("unet"), r"needs safetensors weights in unet/ and has none; download or convert"),
        (without("vae"), r"needs safetensors weights in vae/"),
        (without("text_encoder"), r"needs safetensors weights in text_encoder/"),
        (without("tokenizer"), r"has nothing in tokenizer/; download it again"),
        (without("scheduler"), r"has nothing in scheduler/; download it again"),
        (pickled("unet"), r"in unet/ and has only pytorch_model\.bin, a pickle, which tokenflow never opens"),
        (pickled("text_encoder"), r"in text_encoder/ and has only pytorch_model\.bin"),
        (cut("unet", 0.99), r"cannot be loaded .*download it again"),
        (cut("unet", 0.0), r"cannot be loaded .*download it again"),
        (cut("vae", 0.5), r"cannot be loaded .*download it again"),
        (cut("text_encoder", 0.5), r"cannot be loaded .*download it again"),
        (
            lacking("conv_in.weight"),
            r"the unet of .* lacks 1 of its weights, such as conv_in\.weight; download it",
        ),
        (lacking("final_layer_norm.bias", "text_encoder"), r"the text_encoder of .* lacks 1 of its weights"),
        (overwritten("model_index.json", "{"), r"cannot be loaded .*download it again"),
        (overwritten("unet/config.json", "{"), r"cannot be loaded .*download it again"),
        (
            overwritten("unet/config.json", "{}"),
            r"the unet of .* cannot be loaded \(its weights do not fit its config\.json\)",
        ),
        (
            overwritten("text_encoder/config.json", "{}"),
            r"the text_encoder of .*\(its weights do not fit its config\.json",
        ),
        (
            lambda model: (model / "tokenizer/tokenizer.json").unlink(),
            r"has no vocabulary in tokenizer/ .*; download it again",
        ),
        (
            overwritten("model_index.json", '{"_class_name": "PixArtAlphaPipeline"}'),
            r"is PixArtAlphaPipeline, which is not supported; expected Stable Diffusion 1\.x, 2\.x or XL",
        ),
    ],
)
def test_what_is_wrong_with_a_folder_is_said_in_one_line(spoil: Callable[[Path], None], said: str, model: Path) -> None:
    spoil(model)
    with pytest.raises(ModelError, match=said) as caught:
        load_model(str(model), device="cpu")
    assert "\n" not in str(caught.value)
    assert str(model) in str(caught.value)


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no model_index\.json.*set model\.path"):
        load_model(str(tmp_path), device="cpu")


@pytest.mark.parametrize("name", ["./none", "a/b/c", "../x", "C:\\models"])
def test_a_path_where_nothing_is(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ModelNotFoundError, match=r"the folder .* was not found"):
        load_model(name, device="cpu")


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt", "model.pth", "model.bin", "Model.CKPT"])
def test_a_pickle_is_refused_and_never_opened(name: str, tmp_path: Path) -> None:
    harm = tmp_path / "harm"

    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (harm,)

    torch.save(Harmful(), tmp_path / name)
    with pytest.raises(ModelError, match=r"a pickle, which can run any code.*expected \.safetensors"):
        load_model(str(tmp_path / name), device="cpu")
    assert not harm.exists()


def test_a_missing_file() -> None:
    with pytest.raises(
        ModelNotFoundError, match=r"the model file 'none\.safetensors' was not found in /.*; set model\.path"
    ):
        load_model("none.safetensors", device="cpu")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"cannot be loaded .*expected a whole \.safetensors file: download it again"),
        (b"text", r"cannot be loaded .*expected a whole \.safetensors file"),
        (b"\xff" * 100, r"cannot be loaded .*expected a whole \.safetensors file"),
        (
            b"\x02\0\0\0\0\0\0\0{}",
            r"is of an unknown kind; expected a whole Stable Diffusion 1\.x, 2\.x or XL",
        ),
    ],
    ids=["empty", "text", "bytes", "no weights"],
)
def test_a_file_that_is_no_checkpoint(content: bytes, said: str, saved: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=said) as caught:
        load_model(str(tmp_path / "model.safetensors"), device="cpu", base=str(saved))
    assert "\n" not in str(caught.value)


def test_a_folder_of_a_withdrawn_name_is_taken_without_a_word(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = next(iter(WITHDRAWN))
    shutil.copytree(saved, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    load_model(name, device="cpu")


def test_the_stored_fingerprint_is_that_of_the_loaded_model(saved: Path) -> None:
    for settings in ({}, {"dtype": "bfloat16"}, {"tiling": True}):
        loaded = load_model(saved, device="cpu", **settings)
        assert stored_fingerprint(str(saved), device="cpu", **settings) == loaded.fingerprint


def test_a_folder_with_weights_in_half_precision_alone_is_loaded(model: Path, tmp_path: Path) -> None:
    pipeline = DiffusionPipeline.from_pretrained(model, safety_checker=None, requires_safety_checker=False)
    pipeline.to(torch.float16).save_pretrained(tmp_path / "half", variant="fp16")
    assert all(".fp16." in file.name for file in (tmp_path / "half").rglob("*.safetensors"))
    models = [load_model(folder, device="cpu", dtype="float32") for folder in (model, tmp_path / "half")]
    noise = [each.predict(torch.ones(1, 4, 8, 8), level(500), each.condition("a dog")) for each in models]
    torch.testing.assert_close(noise[1], noise[0], rtol=0, atol=2e-3)  # weights of eleven bits


@pytest.mark.parametrize("wanted", [True, False])
def test_downloads_draw_the_hubs_bars_unless_they_are_switched_off(
    wanted: bool, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[bool] = []
    load = StableDiffusionPipeline.from_pretrained

    def from_pretrained(*arguments: Any, **options: Any) -> Any:
        drawn.append(not hub.are_progress_bars_disabled())
        return load(*arguments, **options)

    monkeypatch.setattr(StableDiffusionPipeline, "from_pretrained", from_pretrained)
    if not wanted:
        hub.disable_progress_bars()
    try:
        load_model(model, device="cpu")
        assert drawn == [wanted]
        assert hub.are_progress_bars_disabled() is not wanted
    finally:
        hub.enable_progress_bars()


def test_progress_says_what_is_loaded_where_and_in_which_precision(model: Path) -> None:
    heard: list[Event] = []
    load_model(model, device="cpu", dtype="bfloat16", on_event=heard.append)
    label = f"{model} on cpu, bfloat16"
    assert [(event.stage, event.done, event.total, event.label) for event in heard if isinstance(event, Progress)] == [
        ("load", 0, 1, label),
        ("load", 1, 1, label),
    ]


def test_notices_of_loading_go_to_its_listener(model: Path) -> None:
    file, heard = weights(model), list[Event]()
    save_file({**load_file(file), "surplus": torch.zeros(1)}, file, metadata={"format": "pt"})
    load_model(model, device="cpu", on_event=heard.append)
    assert any(isinstance(event, Notice) and "such as surplus" in event.message for event in heard)
