"""CLIP scores from a tiny CLIP with random weights, against the model's own output."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.correspondence.test_flow import texture
from tests.tiny import save_tiny_clip, save_tiny_model
from tokenflow.errors import ModelError, ModelNotFoundError
from tokenflow.metrics import ClipScore

CPU = torch.device("cpu")
IMAGES = [texture(40, 40), 255 - texture(40, 40), texture(40, 40)[::-1].copy()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


def scores(folder: Path, prompt: str, images: list[np.ndarray]) -> dict[str, list[float]]:
    score = ClipScore(str(folder), prompt, CPU)
    for image in images:
        score.add({"edit": image})
    return {figure: by_name["edit"] for figure, by_name in score.over_time.items()}


def test_the_text_score_is_the_cosine_in_the_models_logits(folder: Path) -> None:
    from transformers import CLIPModel, CLIPProcessor

    model, processor = CLIPModel.from_pretrained(folder), CLIPProcessor.from_pretrained(folder)
    with torch.no_grad():
        output = model(**processor(text=["a tiger"], images=IMAGES, return_tensors="pt"))
        expected = (output.logits_per_text[0] / model.logit_scale.exp()).tolist()
    # One by one instead of in a batch, in float32.
    assert scores(folder, "a tiger", IMAGES)["clip_text"] == pytest.approx(expected, abs=1e-5)


def test_consistency_is_the_cosine_of_neighbours(folder: Path) -> None:
    from transformers import CLIPModel, CLIPProcessor

    model, processor = CLIPModel.from_pretrained(folder), CLIPProcessor.from_pretrained(folder)
    with torch.no_grad():
        embeddings = model.get_image_features(**processor(images=IMAGES, return_tensors="pt")).pooler_output
    expected = torch.cosine_similarity(embeddings[1:], embeddings[:-1]).tolist()
    assert scores(folder, "a tiger", IMAGES)["clip_consistency"] == pytest.approx(expected, abs=1e-5)


def test_a_still_clip_has_consistency_1_and_a_single_frame_none(folder: Path) -> None:
    assert scores(folder, "a tiger", IMAGES[:1] * 3)["clip_consistency"] == pytest.approx([1, 1], abs=1e-6)
    assert set(scores(folder, "a tiger", IMAGES[:1])) == {"clip_text"}


def test_the_score_depends_on_the_prompt_and_a_long_prompt_is_truncated(folder: Path) -> None:
    one, other, long = (scores(folder, prompt, IMAGES)["clip_text"] for prompt in ("a tiger", "snow", "x " * 200))
    assert one != other
    assert len(long) == len(IMAGES)


def test_a_missing_model_is_reported_with_its_setting(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no CLIP model at .*set metrics\.clip"):
        ClipScore(str(tmp_path / "none"), "a tiger", CPU)


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    unet = save_tiny_model(tmp_path) / "text_encoder"
    with pytest.raises(ModelError, match=r"cannot read .* as a CLIP model .*set metrics\.clip"):
        ClipScore(str(unet), "a tiger", CPU)
