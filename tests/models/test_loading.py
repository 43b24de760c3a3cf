import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from huggingface_hub import utils as hub
from huggingface_hub.errors import GatedRepoError
from safetensors.torch import load_file, save_file

from tests.tiny import level, save_tiny_model
from tokenflow.errors import ModelError, ModelNotFoundError, TokenflowWarning
from tokenflow.events import Event, Progress
from tokenflow.models import loading
from tokenflow.models.loading import WITHDRAWN, load_model, stored_fingerprint

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
        (without("unet"), r"needs safetensors weights in unet/ and has none; download or convert"),
        (without("vae"), r"needs safetensors weights in vae/"),
        (without("text_encoder"), r"needs safetensors weights in text_encoder/"),
        (without("tokenizer"), r"has nothing in tokenizer/; download it again"),
        (without("scheduler"), r"has nothing in scheduler/; download it again"),
        (pickled("unet"), r"in unet/ and only has the pickled pytorch_model\.bin, which is refused"),
        (pickled("text_encoder"), r"in text_encoder/ and only has the pickled"),
        (cut("unet", 0.99), r"cannot be loaded .*download it again"),
        (cut("unet", 0.0), r"cannot be loaded .*download it again"),
        (cut("vae", 0.5), r"cannot be loaded .*download it again"),
        (cut("text_encoder", 0.5), r"cannot be loaded .*download it again"),
        (lacking("conv_in.weight"), r"lacks 1 of the weights of its unet, such as conv_in\.weight; download it"),
        (overwritten("model_index.json", "{"), r"cannot be loaded .*download it again"),
        (overwritten("unet/config.json", "{"), r"cannot be loaded .*download it again"),
        (overwritten("unet/config.json", "{}"), r"cannot be loaded .*expected shape.*download it again"),
        (
            overwritten("model_index.json", '{"_class_name": "FluxPipeline"}'),
            r"is a FluxPipeline, which is not supported; expected Stable Diffusion 1\.x, 2\.x or XL",
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
    with pytest.raises(ModelNotFoundError, match="there is no folder"):
        load_model(name, device="cpu")


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt", "model.pth", "model.bin", "Model.CKPT"])
def test_a_pickle_is_refused_and_never_opened(name: str, tmp_path: Path) -> None:
    harm = tmp_path / "harm"

    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (harm,)

    torch.save(Harmful(), tmp_path / name)
    with pytest.raises(ModelError, match=r"is a pickle, which can run any code.*expected \.safetensors"):
        load_model(str(tmp_path / name), device="cpu")
    assert not harm.exists()


def test_a_missing_file() -> None:
    with pytest.raises(ModelNotFoundError, match=r"there is no model file 'none\.safetensors' in /.*; set model\.path"):
        load_model("none.safetensors", device="cpu")


@pytest.mark.parametrize("content", [b"", b"text", b"\xff" * 100, b"\x02\0\0\0\0\0\0\0{}"])
def test_a_file_that_is_no_checkpoint(content: bytes, saved: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"cannot be loaded .*expected a Stable Diffusion checkpoint") as caught:
        load_model(str(tmp_path / "model.safetensors"), device="cpu", base=str(saved))
    assert "\n" not in str(caught.value)


def test_the_suffix_of_a_file_may_be_in_upper_case(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def read(path: str, **_: object) -> None:
        asked.append((Path(path).name, Path(path).read_bytes()))
        raise ValueError("it was asked")

    monkeypatch.setattr(StableDiffusionPipeline, "from_single_file", read)
    (tmp_path / "Model V1.SafeTensors").write_bytes(b"weights")
    with pytest.raises(ModelError, match=r"the model file '.*Model V1\.SafeTensors' cannot be loaded \(it was asked\)"):
        load_model(str(tmp_path / "Model V1.SafeTensors"), device="cpu", base=str(saved))
    assert asked == [("Model V1.safetensors", b"weights")]


def test_where_links_are_forbidden_the_suffix_has_to_be_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> None:
        raise OSError("a required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", forbidden)
    (tmp_path / "Model.SafeTensors").write_bytes(b"weights")
    with pytest.raises(ModelError, match="needs the suffix in lower case; rename it"):
        load_model(str(tmp_path / "Model.SafeTensors"), device="cpu")


def hub_with(monkeypatch: pytest.MonkeyPatch, answer: Exception | Path) -> list[str]:
    """The names whose index the Hub is asked for; it answers with an error, or with a file."""
    names: list[str] = []

    def download(name: str, file: str, **_: Any) -> str:
        names.append(name)
        assert file == "model_index.json"
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    monkeypatch.setattr(loading, "hf_hub_download", download)
    return names


@pytest.mark.parametrize(("old", "new"), WITHDRAWN.items())
def test_a_withdrawn_id_becomes_the_one_its_weights_are_kept_under(
    old: str, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = hub_with(monkeypatch, OSError("no network in tests"))
    with (
        pytest.warns(TokenflowWarning, match=rf"'{old}' was removed from the Hub; using the same weights from '{new}'"),
        pytest.raises(ModelNotFoundError, match=f"there is no model '{new}'"),
    ):
        load_model(old, device="cpu")
    assert names == [new]


def test_a_folder_of_a_withdrawn_name_is_taken_without_a_word(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = next(iter(WITHDRAWN))
    shutil.copytree(saved, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    load_model(name, device="cpu")


def test_a_model_with_terms_says_what_to_accept(monkeypatch: pytest.MonkeyPatch) -> None:
    error = OSError("401 Client Error")
    error.__cause__ = GatedRepoError.__new__(GatedRepoError)
    hub_with(monkeypatch, error)
    with pytest.raises(ModelNotFoundError, match="is gated: accept its terms on its page"):
        load_model("someone/gated", device="cpu")


def test_half_precision_falls_back_where_there_is_no_such_variant(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub_with(monkeypatch, saved / "model_index.json")
    variants: list[str | None] = []

    def from_pretrained(name: str, variant: str | None = None, **_: Any) -> None:
        variants.append(variant)
        raise ValueError("no such variant")

    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", from_pretrained)
    with pytest.raises(ModelError, match="someone/model"):
        load_model("someone/model", device="cpu", dtype="float16")
    assert variants == ["fp16", None]


def test_another_family_on_the_hub_is_refused_by_its_class_before_any_weight_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "model_index.json"
    index.write_text('{"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]}')
    hub_with(monkeypatch, index)
    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", lambda *_, **__: pytest.fail("weights were asked for"))
    with pytest.raises(ModelError, match="'someone/flux' is a FluxPipeline, which is not supported"):
        load_model("someone/flux", device="cpu")


def test_a_hub_model_is_identified_by_the_commit_that_was_downloaded(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = DiffusionPipeline.from_pretrained(saved, safety_checker=None, requires_safety_checker=False)
    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", lambda *_, **__: pipeline)
    fingerprints = set()
    for commit in ("abc", "def"):
        index = tmp_path / "snapshots" / commit / "model_index.json"
        index.parent.mkdir(parents=True)
        shutil.copy(saved / "model_index.json", index)
        hub_with(monkeypatch, index)
        model = load_model("someone/model", device="cpu", dtype="float32")
        fingerprints.add(model.fingerprint)
        monkeypatch.setattr(loading, "try_to_load_from_cache", lambda *_, index=index, **__: str(index))
        assert stored_fingerprint("someone/model", device="cpu", dtype="float32") == model.fingerprint
    assert len(fingerprints) == 2


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
    load = DiffusionPipeline.from_pretrained

    def from_pretrained(*arguments: Any, **options: Any) -> Any:
        drawn.append(not hub.are_progress_bars_disabled())
        return load(*arguments, **options)

    monkeypatch.setattr(loading.DiffusionPipeline, "from_pretrained", from_pretrained)
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
