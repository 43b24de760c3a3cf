import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from huggingface_hub.errors import GatedRepoError
from safetensors.torch import load_file, save_file

from tests.tiny import save_tiny_model
from tokenflow.errors import ConfigError, ModelError, ModelNotFoundError, TokenflowWarning
from tokenflow.models.loading import WITHDRAWN, choose_device, choose_dtype, fingerprint, load_model

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
    loaded = load_model(str(model), "cpu", "float32")
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = DiffusionPipeline.from_pretrained(model, safety_checker=None, requires_safety_checker=False)
    prompt = loaded.encode_prompt("a dog")
    noise = expected.unet(latents, 500, encoder_hidden_states=prompt.tokens).sample
    # The same weights through the same kernels, but for how attention is written down.
    torch.testing.assert_close(loaded.predict(latents, 500, prompt)[0], noise, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_model_is_loaded_in_the_precision_asked_for(dtype: str, model: Path) -> None:
    loaded = load_model(str(model), "cpu", dtype)
    assert loaded.encode_prompt("a dog").tokens.dtype == getattr(torch, dtype)


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


def lacking(name: str) -> Callable[[Path], None]:
    def spoil(model: Path) -> None:
        kept = load_file(weights(model))
        assert kept.pop(name, None) is not None
        save_file(kept, weights(model), {"format": "pt"})

    return spoil


def overwritten(name: str, content: str) -> Callable[[Path], None]:
    def spoil(model: Path) -> None:
        (model / name).write_text(content)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (without("unet"), r"needs safetensors weights in unet/, and there is none; download or convert"),
        (without("vae"), r"needs safetensors weights in vae/"),
        (without("text_encoder"), r"needs safetensors weights in text_encoder/"),
        (without("tokenizer"), r"has nothing in tokenizer/; download it again"),
        (without("scheduler"), r"has nothing in scheduler/; download it again"),
        (pickled("unet"), r"in unet/, and there is only the pickled pytorch_model\.bin, which is refused"),
        (pickled("text_encoder"), r"in text_encoder/, and there is only the pickled"),
        (cut("unet", 0.99), r"cannot be loaded .*download it again"),
        (cut("unet", 0.0), r"cannot be loaded .*download it again"),
        (cut("vae", 0.5), r"cannot be loaded .*download it again"),
        (cut("text_encoder", 0.5), r"cannot be loaded .*download it again"),
        (lacking("conv_in.weight"), r"lacks 1 of the weights of its unet, such as conv_in\.weight; download it"),
        (overwritten("model_index.json", "{"), r"cannot be loaded .*download it again"),
        (overwritten("unet/config.json", "{"), r"cannot be loaded .*download it again"),
        (overwritten("unet/config.json", "{}"), r"cannot be loaded .*expected shape.*download it again"),
        (overwritten("model_index.json", '{"_class_name": "FluxPipeline"}'), r"cannot be loaded .*FluxPipeline"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said_in_one_line(spoil: Callable[[Path], None], said: str, model: Path) -> None:
    spoil(model)
    with pytest.raises(ModelError, match=said) as caught:
        load_model(str(model), "cpu")
    assert "\n" not in str(caught.value)
    assert str(model) in str(caught.value)


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no model_index\.json.*set model\.path"):
        load_model(str(tmp_path), "cpu")


@pytest.mark.parametrize("name", ["./none", "a/b/c", "../x", "C:\\models"])
def test_a_path_where_nothing_is(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ModelNotFoundError, match="there is no folder"):
        load_model(name, "cpu")


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt", "model.pth", "model.bin"])
def test_a_pickle_is_refused_and_never_opened(name: str, tmp_path: Path) -> None:
    harm = tmp_path / "harm"

    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (harm,)

    torch.save(Harmful(), tmp_path / name)
    with pytest.raises(ModelError, match=r"is a pickle, which can run any code.*expected \.safetensors"):
        load_model(str(tmp_path / name), "cpu")
    assert not harm.exists()


def test_a_missing_file() -> None:
    with pytest.raises(ModelNotFoundError, match=r"there is no model file 'none\.safetensors'; set model\.path"):
        load_model("none.safetensors", "cpu")


@pytest.mark.parametrize("content", [b"", b"text", b"\xff" * 100, b"\x02\0\0\0\0\0\0\0{}"])
def test_a_file_that_is_no_checkpoint(content: bytes, saved: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"cannot be loaded .*expected a Stable Diffusion checkpoint") as caught:
        load_model(str(tmp_path / "model.safetensors"), "cpu", base=str(saved))
    assert "\n" not in str(caught.value)


def asked_for(monkeypatch: pytest.MonkeyPatch, answer: Exception) -> list[str]:
    """The names that are asked of the hub, which answers so."""
    names: list[str] = []

    def from_pretrained(name: str, **_: Any) -> None:
        names.append(name)
        raise answer

    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", from_pretrained)
    return names


@pytest.mark.parametrize(("old", "new"), WITHDRAWN.items())
def test_a_withdrawn_id_becomes_the_one_its_weights_are_kept_under(
    old: str, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = asked_for(monkeypatch, OSError("no network in tests"))
    with (
        pytest.warns(
            TokenflowWarning, match=rf"'{old}' was withdrawn by its owner; using the same weights from '{new}'"
        ),
        pytest.raises(ModelNotFoundError, match=f"there is no model '{new}'"),
    ):
        load_model(old, "cpu")
    assert names == [new]


def test_a_folder_of_a_withdrawn_name_is_taken_without_a_word(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = next(iter(WITHDRAWN))
    shutil.copytree(saved, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    load_model(name, "cpu")


def test_a_model_with_terms_says_what_to_accept(monkeypatch: pytest.MonkeyPatch) -> None:
    error = OSError("401 Client Error")
    error.__cause__ = GatedRepoError.__new__(GatedRepoError)
    asked_for(monkeypatch, error)
    with pytest.raises(ModelNotFoundError, match="accept them on its page"):
        load_model("someone/gated", "cpu")


def test_half_precision_falls_back_where_there_is_no_such_variant(monkeypatch: pytest.MonkeyPatch) -> None:
    names = asked_for(monkeypatch, ValueError("no variant fp16"))
    with pytest.raises(ModelError, match="someone/model"):
        load_model("someone/model", "cpu", "float16")
    assert names == ["someone/model"] * 2


@pytest.mark.parametrize("name", ["toaster", "cuda:99", ""])
def test_a_device_that_is_not_there(name: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.device is .*expected auto, cpu, cuda, cuda:N or mps") as caught:
        choose_device(name)
    assert "\n" not in str(caught.value)


def test_devices_and_precisions(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device("cpu") == CPU
    for capabilities, expected in (
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True, "avx512_bf16": False}, torch.bfloat16),
        ({"avx512_bf16": False}, torch.float32),
        ({}, torch.float32),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda capabilities=capabilities: capabilities)
        assert choose_dtype("auto", CPU) == expected
        assert choose_dtype("float32", CPU) == torch.float32
    assert choose_dtype("auto", torch.device("cuda")) == torch.float16
    assert choose_dtype("auto", torch.device("mps")) == torch.float32
    assert choose_dtype("bfloat16", CPU) == torch.bfloat16
    with pytest.raises(ConfigError, match=r"model\.dtype is 'int8'; expected auto, float32"):
        choose_dtype("int8", CPU)


def test_a_folder_with_weights_in_half_precision_alone_is_loaded(model: Path, tmp_path: Path) -> None:
    pipeline = DiffusionPipeline.from_pretrained(model, safety_checker=None, requires_safety_checker=False)
    pipeline.to(torch.float16).save_pretrained(tmp_path / "half", variant="fp16")
    assert all(".fp16." in file.name for file in (tmp_path / "half").rglob("*.safetensors"))
    models = [load_model(str(folder), "cpu", "float32") for folder in (model, tmp_path / "half")]
    noise = [each.predict(torch.ones(1, 4, 8, 8), 500, each.encode_prompt("a dog")) for each in models]
    torch.testing.assert_close(noise[1], noise[0], rtol=0, atol=2e-3)  # weights of eleven bits


def test_the_fingerprint_stays_where_nothing_changes(saved: Path, model: Path) -> None:
    assert fingerprint(str(model)) == fingerprint(str(saved))
    (model / "README.md").write_text("not a part of the model")
    assert fingerprint(str(model)) == fingerprint(str(saved))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_the_fingerprint_changes_with_a_byte_of_the_weights(part: str, place: float, model: Path) -> None:
    before = fingerprint(str(model))
    content = bytearray(weights(model, part).read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    weights(model, part).write_bytes(content)
    assert fingerprint(str(model)) != before


def test_the_fingerprint_changes_with_a_byte_in_the_middle_of_a_large_file(tmp_path: Path) -> None:
    file = tmp_path / "large.safetensors"
    content = bytearray(5 << 20)
    file.write_bytes(content)
    before = fingerprint(str(file))
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert fingerprint(str(file)) != before


def test_a_withdrawn_id_and_where_its_weights_are_kept_are_one_model() -> None:
    assert all(fingerprint(old) == fingerprint(new) for old, new in WITHDRAWN.items())


@pytest.mark.parametrize("name", ["scheduler/scheduler_config.json", "unet/config.json"])
def test_the_fingerprint_changes_with_a_setting_of_the_model(name: str, model: Path) -> None:
    before = fingerprint(str(model))
    (model / name).write_text((model / name).read_text().replace("0", "1", 1))
    assert fingerprint(str(model)) != before


def test_the_fingerprint_changes_with_precision_base_and_name(model: Path) -> None:
    one_file = weights(model)
    different = [
        fingerprint(str(model), dtype="torch.float32"),
        fingerprint(str(model), dtype="torch.bfloat16"),
        fingerprint(str(model), dtype="torch.float32", base="other"),
        fingerprint(str(one_file)),
        fingerprint("someone/model"),
        fingerprint("someone/other"),
    ]
    assert len(set(different)) == len(different)
