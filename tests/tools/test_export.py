import shutil
from pathlib import Path

from safetensors import safe_open

from tools.mini_sd.export import load_with_older_transformers

SHIPPED = Path(__file__).parents[2] / "data" / "models" / "mini-sd"


def test_the_shipped_model_is_as_older_transformers_want_it_and_stays_so(tmp_path):
    copy = Path(shutil.copytree(SHIPPED, tmp_path / "model"))
    files = [Path("text_encoder/model.safetensors"), Path("tokenizer/vocab.json"), Path("tokenizer/merges.txt")]
    for file in files[1:]:
        (copy / file).unlink()
    load_with_older_transformers(copy)
    for file in files:
        assert (copy / file).read_bytes() == (SHIPPED / file).read_bytes()
    with safe_open(copy / files[0], "pt") as weights:
        assert all(name.startswith("text_model.") for name in weights.keys())  # noqa: SIM118
