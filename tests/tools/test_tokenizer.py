import json

import numpy as np
import pytest
from transformers import CLIPTokenizer

from tools.mini_sd.captions import sample_caption
from tools.mini_sd.tokenizer import LENGTH, write_tokenizer
from tools.mini_sd.words import sample_words


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(path)
    return path


def test_captions_survive_the_round_trip_and_fit(folder):
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    rng = np.random.default_rng(11)
    for _ in range(200):
        text = sample_caption(sample_words(rng), rng)
        tokens = tokenizer(text).input_ids
        decoded = tokenizer.decode(tokens, skip_special_tokens=True)
        assert decoded.replace(" ", "") == text.replace(" ", "")
        assert len(tokens) <= LENGTH


def test_unknown_words_are_spelt_and_not_dropped(folder):
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    tokens = tokenizer("a Dinosaur, éàß 9").input_ids
    assert tokens[1:-1].count(tokenizer.eos_token_id) == 0
    assert tokenizer.decode(tokens, skip_special_tokens=True).replace(" ", "") == "adinosaur,éàß9"


def test_pads_to_the_length_of_the_text_encoder(folder):
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    assert len(tokenizer("a cat", padding="max_length", truncation=True).input_ids) == LENGTH


def test_the_same_seed_gives_the_same_files(folder, tmp_path):
    write_tokenizer(tmp_path)
    for name in ("tokenizer.json", "vocabulary.json"):
        assert (folder / name).read_text() == (tmp_path / name).read_text()


def test_the_vocabulary_names_every_kind(folder):
    known = json.loads((folder / "vocabulary.json").read_text())
    assert "tiger" in known["object"]
    assert "grass" in known["words"]
    assert "dinosaur" not in known["words"]
