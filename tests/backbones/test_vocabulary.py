import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import save_tiny_model, tiny_backbone
from tokenflow.backbones.loading import load_backbone
from tokenflow.backbones.vocabulary import FILE, Vocabulary, read_vocabulary
from tokenflow.errors import ModelError, TokenflowWarning
from tools.mini_sd.captions import all_words, sample_caption
from tools.mini_sd.words import sample_words

CONTENT = {"object": ["dog", "fire engine"], "style": ["3d"], "words": ["a", "dog", "fire", "engine", "3d", "style"]}


def test_words_never_seen_are_found_in_order_and_once() -> None:
    known = Vocabulary(frozenset(CONTENT["words"]), {})
    assert known.unknown("A dinosaur, a Dog; 3D-style dinosaur? (robot)") == ["dinosaur", "robot"]
    assert known.unknown("") == []


def test_every_caption_of_the_grammar_is_known() -> None:
    rng = np.random.default_rng(0)
    known = Vocabulary(frozenset(all_words()), {})
    assert not [unknown for _ in range(500) if (unknown := known.unknown(sample_caption(sample_words(rng), rng)))]


def test_a_model_that_brings_a_vocabulary_warns_and_says_what_it_knows(tmp_path: Path) -> None:
    save_tiny_model(tmp_path)
    (tmp_path / FILE).write_text(json.dumps(CONTENT))
    backbone = load_backbone(str(tmp_path), "cpu")
    with pytest.warns(TokenflowWarning, match=r"'dinosaur'.*object: dog, fire engine; style: 3d"):
        backbone.embed("a dinosaur, 3d style")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backbone.embed("a fire engine, 3d style")


def test_a_model_without_one_never_warns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny_backbone().embed("a dinosaur")


def test_a_damaged_vocabulary_is_named(tmp_path: Path) -> None:
    assert read_vocabulary(tmp_path) is None
    for damaged in ("{", "[]", "{}", '{"words": 3}'):
        (tmp_path / FILE).write_text(damaged)
        with pytest.raises(ModelError, match=FILE):
            read_vocabulary(tmp_path)
