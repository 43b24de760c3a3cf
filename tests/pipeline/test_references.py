"""Edits with references, in every family and mode, on tiny random networks."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tokenflow
from tests.tiny import moving_square, save_tiny_setup, tiny_model
from tests.tiny_flux import tiny_flux, tiny_flux2
from tests.tiny_sana import tiny_sana
from tokenflow import Reference
from tokenflow.config import Edit, load_config
from tokenflow.config import Reference as ReferenceSettings
from tokenflow.diffusion.batches import as_images
from tokenflow.errors import ClipError, ClipNotFoundError, ConfigError, TokenflowWarning
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline.references import build_references, checked_references, found_part
from tokenflow.video import Video

CLIP = Video(moving_square(4), rate=1)
IMAGE = np.random.default_rng(1).integers(0, 255, (32, 48, 3), dtype=np.uint8)


REGION = tokenflow.Region(mask=np.ones((16, 24), bool), prompt="a cat")

FAMILIES: dict[str, Callable[[], Any]] = {
    "stable diffusion": tiny_model,
    "sana": tiny_sana,
    "flux": tiny_flux,
    "flux2": tiny_flux2,
}


@pytest.fixture(scope="module", params=FAMILIES)
def source(request: Any) -> InvertedClip:
    return tokenflow.invert(CLIP, FAMILIES[request.param](), "a dog on grass", steps=2)


@pytest.fixture(scope="module")
def one_family() -> InvertedClip:
    return tokenflow.invert(CLIP, tiny_model(), "a dog on grass", steps=2)


HOW: dict[str, dict[str, Any]] = {
    "a style": {"references": [Reference(IMAGE, kind="style")]},
    "an identity": {"references": [IMAGE]},
    "every frame by itself": {"references": [IMAGE], "propagation": "none"},
    "without inversion": {"references": [IMAGE], "mode": tokenflow.FlowEdit(strength=1.0)},
    "a region with a prompt of its own": {"references": [IMAGE], "regions": [REGION]},
}


@pytest.mark.parametrize("how", HOW)
def test_a_reference_changes_the_edit_by_its_weight(how: str, source: InvertedClip) -> None:
    """Twice half of it is the same as the whole; tokens of the model's own have no weight."""
    (given,) = HOW[how]["references"]
    whole = given if isinstance(given, Reference) else Reference(given)
    has_own_tokens = hasattr(source.model, "read_references")
    same = [replace(whole, weight=0.3)] if has_own_tokens else [replace(whole, weight=0.5)] * 2
    plain, edited, again = (
        tokenflow.edit(source, "a tiger on grass", **{"guidance_scale": 8.0, **HOW[how], "references": references})
        for references in ([], [whole], same)
    )
    assert not np.array_equal(edited.frames, plain.frames)  # the same edit twice gives the same bits
    assert np.abs(edited.frames.astype(int) - again.frames).max() <= 1


def test_the_sources_prediction_does_not_see_references(source: InvertedClip) -> None:
    """It would cancel them: with the source's own prompt, nothing but a reference moves the edit."""
    mode = tokenflow.FlowEdit(strength=1.0, source_guidance_scale=8.0)
    plain, edited = (
        tokenflow.edit(source, "a dog on grass", mode=mode, guidance_scale=8.0, references=references).decoded
        for references in ([], [IMAGE])
    )
    assert np.abs(plain.astype(int) - decoded(source)).max() <= 1
    assert np.abs(edited.astype(int) - plain).max() > 1


def decoded(source: InvertedClip) -> np.ndarray:
    """The source through the autoencoder."""
    return as_images(source.model.decode(source.latents(source.model.schedule.clean)))


@pytest.mark.parametrize("kind", ["identity", "style"])
def test_frames_between_keyframes_see_references_at_sites_of_their_own(kind: Any, one_family: InvertedClip) -> None:
    """In a clip where nothing moves, they come out as the keyframe does."""
    still = tokenflow.invert(Video(CLIP.frames[[0, 0, 0]], rate=1), one_family.model, "a dog on grass", steps=2)
    settings: dict[str, Any] = {"keyframe_interval": 3, "propagate_edit_until": 0.0, "propagated_layers": "half"}
    edited = tokenflow.edit(still, "a tiger", guidance_scale=8.0, references=[Reference(IMAGE, kind=kind)], **settings)
    assert np.abs(edited.frames.astype(int) - edited.frames[0]).max() <= 1


def test_an_instruction_takes_references_where_the_model_has_tokens_of_its_own_for_them() -> None:
    kontext = tokenflow.invert(CLIP, tiny_flux(kontext=True), "a dog on grass", steps=0)
    with pytest.raises(ConfigError, match=r"instruct takes references with FLUX\.2 \[klein\] only"):
        tokenflow.edit(kontext, "make it a tiger", mode=tokenflow.Instruct(), references=[IMAGE])
    klein = tokenflow.invert(CLIP, tiny_flux2(), "a dog on grass", steps=0)
    without, shown, unseen = (
        tokenflow.edit(klein, "make it a tiger", mode=tokenflow.Instruct(), steps=2, references=given).frames
        for given in ([], [IMAGE], [Reference(255 - IMAGE, weight=0), Reference(IMAGE, weight=0.5, kind="style")])
    )
    assert not np.array_equal(shown, without)
    assert np.array_equal(shown, unseen)


def test_without_weight_nothing_changes(one_family: InvertedClip) -> None:
    plain = tokenflow.edit(one_family, "a tiger")
    edited = tokenflow.edit(one_family, "a tiger", references=[Reference(IMAGE, weight=0)])
    assert np.array_equal(edited.frames, plain.frames)


def test_of_an_identity_counts_what_the_prompt_changes_and_of_a_style_everything(one_family: InvertedClip) -> None:
    prompt = one_family.model.condition("a tiger on grass")
    both = [Reference(IMAGE), Reference(IMAGE, weight=0.5, kind="style")]
    made = build_references(one_family, both, prompt, seed=0)
    assert made is not None
    assert made.styles.tolist() == [0.0, 0.5]
    assert made.counts.tolist() == [2.0, 1.0]  # twice what keyframes attend to otherwise, times the weight
    assert made.inside[1].all()
    assert 0 < made.inside[0].mean() < 1
    same = build_references(one_family, both[:1], one_family.conditioning, seed=0)
    assert same is not None
    assert same.inside.all()  # the prompts differ in nothing, so nothing can be told apart


def test_the_part_that_counts_is_where_the_change_stands_out() -> None:
    change = torch.zeros(4, 6)
    change[1:3, 2:5] = torch.tensor([0.9, 1.0, 1.1])
    assert torch.equal(found_part(change), (change > 0).float())
    assert found_part(torch.zeros(4, 6)).all()


def test_images_are_cut_to_the_clips_aspect(one_family: InvertedClip) -> None:
    """Only the middle of a wide image counts."""
    wide = np.concatenate([255 - IMAGE, IMAGE, 255 - IMAGE], axis=1)
    first, second = (
        tokenflow.edit(one_family, "a tiger", references=[Reference(each, kind="style")]).frames
        for each in (IMAGE, wide)
    )
    assert np.array_equal(first, second)


def test_files_and_settings_describe_the_same(tmp_path: Path) -> None:
    Image.fromarray(IMAGE).save(tmp_path / "style.png")
    path = save_tiny_setup(tmp_path, frames=4, steps=1)
    quick = ["inversion.check=false", "metrics.enabled=false", "output.comparison=false", "output.contact_sheet=false"]
    alone = load_config(path, [*quick, f"edit.references=[{tmp_path / 'style.png'}]"])
    (reference,) = alone.edit.references
    assert (reference.path, reference.weight, reference.kind) == (tmp_path / "style.png", 1.0, "identity")
    assert tmp_path / "style.png" in alone.inputs
    edited = tokenflow.run(alone).frames
    assert not np.array_equal(edited, tokenflow.run(load_config(path, quick)).frames)
    named = load_config(path, [f"edit.references=[{{path: {tmp_path / 'style.png'}, weight: 0.5, kind: style}}]"])
    assert (named.edit.references[0].weight, named.edit.references[0].kind) == (0.5, "style")


def test_what_is_not_a_reference_is_refused_in_one_line(one_family: InvertedClip, tmp_path: Path) -> None:
    path = save_tiny_setup(tmp_path, frames=1, steps=1)
    with pytest.raises(ConfigError, match=r"edit\.references.*expected a list of images such as \[style\.png\]"):
        load_config(path, ["edit.references=style.png"])
    with pytest.raises(ClipNotFoundError, match=r"there is no image at missing\.png"):
        tokenflow.run(load_config(path, ["edit.references=[missing.png]"]))
    with pytest.raises(ConfigError, match=r"expected a list of references"):
        tokenflow.edit(one_family, "a tiger", references="style.png")
    with pytest.raises(ConfigError, match=r"a reference: expected an image of shape"):
        tokenflow.edit(one_family, "a tiger", references=[IMAGE[0]])
    with pytest.raises(ConfigError, match=r"weight"):
        tokenflow.edit(one_family, "a tiger", references=[Reference(IMAGE, weight=-1)])


def test_references_are_checked_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    config = load_config(save_tiny_setup(tmp_path, frames=2, steps=1), [f"edit.references=[{tmp_path / 'broken.png'}]"])
    for function in (tokenflow.run, partial(tokenflow.seed_sheet, count=2), partial(tokenflow.trial, count=2)):
        events: list[Any] = []
        with pytest.raises(ClipError, match=r"broken\.png cannot be read"):
            function(config, on_event=events.append)
        assert not events
    assert not (tmp_path / "trajectories").exists()


def test_references_are_given_in_any_form(tmp_path: Path) -> None:
    Image.fromarray(IMAGE).save(tmp_path / "style.png")
    values = {"path": tmp_path / "style.png", "weight": "0.5", "kind": "style"}
    for given in (values, ReferenceSettings(**values), Reference(IMAGE, weight="0.5", kind="style")):  # type: ignore[arg-type]
        (checked,) = checked_references([given], Edit(prompt=""))
        assert (checked.weight, checked.kind) == (0.5, "style")
        assert np.array_equal(checked.image, IMAGE)


def test_settings_that_references_leave_without_effect_are_noticed() -> None:
    with pytest.warns(TokenflowWarning, match=r"edit\.ip_adapter has no effect without edit\.references"):
        checked_references([], Edit(prompt="", ip_adapter="adapter.safetensors"))
    with pytest.warns(TokenflowWarning, match=r"keyframes takes references only where it fills in"):
        checked_references([IMAGE], Edit(prompt="", mode="keyframes"))
