"""What both stages open first: the model, and the trajectory that belongs to a clip, a model and settings."""

import hashlib
import json
import re
from pathlib import Path

from tokenflow.config import Config
from tokenflow.models.loading import choose_device, choose_dtype, fingerprint, load_model
from tokenflow.models.model import Model
from tokenflow.store.files import sha256
from tokenflow.store.inversions import StoredInversion
from tokenflow.video import clip_files, probe


def open_model(config: Config) -> Model:
    """The model that the configuration names."""
    model = config.model
    return load_model(model.path, model.device, model.dtype, model.base, offload=model.offload, tiling=model.tiling)


def open_trajectory(config: Config) -> StoredInversion:
    """The trajectory of this clip with this model and these settings, in a folder named after all of them."""
    precision = choose_dtype(config.model.dtype, choose_device(config.model.device))
    probe(config.clip.path)  # says what is wrong with a clip that cannot be read
    made_from = {
        "clip": _hash_files(clip_files(config.clip.path)),
        "part": config.clip.model_dump(mode="json", include={"start", "frames", "every", "size", "resize"}),
        "prompt": config.clip.prompt,
        "model": fingerprint(config.model.path, dtype=str(precision), base=_base(config)),
        "tiling": config.model.tiling,
        "inversion": config.inversion.model_dump(mode="json", include={"steps", "iterations"}),
    }
    digest = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:12]
    return StoredInversion(config.trajectories.dir / f"{_short_name(config.clip.path)}-{digest}", made_from)


def _base(config: Config) -> str:
    """What tells the model that a `.safetensors` file descends from."""
    base = config.model.base
    return "None" if base is None else fingerprint(base)


def _short_name(path: Path) -> str:
    """What a folder can be called after a clip, be that a pattern of names."""
    return re.sub(r"[^\w.-]+", "_", path.stem)[:64]


def _hash_files(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(bytes.fromhex(sha256(path)))
    return digest.hexdigest()
