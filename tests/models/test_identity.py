import shutil
from pathlib import Path

import pytest

from tests.tiny import save_tiny_model
from tokenflow.models.identity import path_fingerprint


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def weights(model: Path, part: str = "unet") -> Path:
    (file,) = (model / part).glob("*.safetensors")
    return file


def test_the_fingerprint_stays_where_nothing_changes(saved: Path, model: Path) -> None:
    assert path_fingerprint(str(model)) == path_fingerprint(str(saved))
    (model / "README.md").write_text("not a part of the model")
    assert path_fingerprint(str(model)) == path_fingerprint(str(saved))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_the_fingerprint_changes_with_a_byte_of_the_weights(part: str, place: float, model: Path) -> None:
    before = path_fingerprint(str(model))
    content = bytearray(weights(model, part).read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    weights(model, part).write_bytes(content)
    assert path_fingerprint(str(model)) != before


def test_the_fingerprint_changes_with_a_byte_in_the_middle_of_a_large_file(tmp_path: Path) -> None:
    file = tmp_path / "large.safetensors"
    content = bytearray(5 << 20)
    file.write_bytes(content)
    before = path_fingerprint(str(file))
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert path_fingerprint(str(file)) != before


@pytest.mark.parametrize("name", ["scheduler/scheduler_config.json", "unet/config.json"])
def test_the_fingerprint_changes_with_a_setting_of_the_model(name: str, model: Path) -> None:
    before = path_fingerprint(str(model))
    (model / name).write_text((model / name).read_text().replace("0", "1", 1))
    assert path_fingerprint(str(model)) != before


def test_the_fingerprint_changes_with_precision_base_and_name(model: Path) -> None:
    one_file = weights(model)
    different = [
        path_fingerprint(str(model), dtype="torch.float32"),
        path_fingerprint(str(model), dtype="torch.bfloat16"),
        path_fingerprint(str(model), dtype="torch.float32", base="other"),
        path_fingerprint(str(one_file)),
        path_fingerprint("someone/model"),
        path_fingerprint("someone/other"),
    ]
    assert len(set(different)) == len(different)


def test_the_fingerprint_changes_with_weights_behind_a_symbolic_link(model: Path, tmp_path: Path) -> None:
    shutil.move(model / "unet", tmp_path / "shared")
    (model / "unet").symlink_to(tmp_path / "shared", target_is_directory=True)
    before = path_fingerprint(str(model))
    content = bytearray(weights(model).read_bytes())
    content[-1] ^= 1
    weights(model).write_bytes(content)
    assert path_fingerprint(str(model)) != before


def test_a_link_to_a_folder_above_is_followed_once(model: Path) -> None:
    (model / "unet" / "loop").symlink_to(model, target_is_directory=True)
    path_fingerprint(str(model))


def test_the_fingerprint_of_a_hub_id_changes_with_its_commit() -> None:
    fingerprints = {path_fingerprint("someone/model", commit) for commit in (None, "abc", "def")}
    assert len(fingerprints) == 3
