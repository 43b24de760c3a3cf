"""A model of its real sizes whose tensors have shapes and no memory, made from its configuration files."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tokenflow.config import Model as ModelSettings
from tokenflow.models.adapters.few_step_loras import few_step_kind, set_scheduler
from tokenflow.models.checkpoints.file_kinds import is_file_name
from tokenflow.models.checkpoints.folder import INDEX, class_of, open_folder, read_index
from tokenflow.models.checkpoints.hub import cached_file, cached_path, kept_name
from tokenflow.models.checkpoints.quiet import quiet
from tokenflow.models.families import family_of
from tokenflow.models.model import Model
from tokenflow.models.placement import Precision, choose_device, choose_dtype

DENOISERS = ("unet", "transformer")


@dataclass(frozen=True, eq=False)
class BlankModel:
    """A model without values.

    Attributes:
        model: to be called within `fake` only.
        fake: torch's mode in which tensors have no memory.
        weights: bytes by part, in the precision that they would be loaded in.
    """

    model: Model
    fake: FakeTensorMode
    weights: Mapping[str, int]

    @property
    def denoiser(self) -> int:
        """Bytes of the network that predicts."""
        return sum(size for part, size in self.weights.items() if part in DENOISERS)


def settings_folder(settings: ModelSettings) -> Path | None:
    """The folder with the configuration of a model and its parts; None where it is not on this machine.

    Of a single file it is that of `base`.
    """
    name = kept_name(settings.path)
    if is_file_name(name):
        if settings.base is None:
            return None
        name = kept_name(settings.base)
    if Path(name).is_dir():
        return Path(name) if (Path(name) / INDEX).is_file() else None
    cached = cached_file(name, INDEX, settings.revision)
    return None if cached is None else cached.parent


def stored_weights(settings: ModelSettings) -> int:
    """Bytes of a model's files of weights on this machine; 0 where they are not all here."""
    folder = settings_folder(settings)
    if folder is None:
        return 0
    name = cached_path(kept_name(settings.path), settings.revision)
    single = [Path(name)] if is_file_name(name) and Path(name).is_file() else []
    files = list(single)
    for part in family_of(settings.path, read_index(settings.path, folder).get("_class_name")).networks:
        found = [file for file in (folder / part).glob("*.safetensors") if file.is_file()]  # broken links are none
        if not found and not single:
            return 0
        files += found
    return sum(file.stat().st_size for file in files)


def blank_model(settings: ModelSettings) -> BlankModel | None:
    """The model of some settings; None where its configuration is not on this machine.

    LoRAs, textual inversions and `vae` are left out: they take little, or as much as what they replace.

    Raises:
        ModelError: it is of a family that is not supported, or its configuration is damaged.
        ConfigError: the device does not exist on this machine.
    """
    folder = settings_folder(settings)
    if folder is None:
        return None
    dtype = choose_dtype(settings.dtype, choose_device(settings.device))
    precision = Precision(dtype, is_automatic=settings.dtype == "auto")
    index = read_index(settings.path, folder)
    family = family_of(settings.path, index.get("_class_name"))
    dtypes = family.dtypes(precision)
    if not all((folder / part / "config.json").is_file() for part in dtypes):
        return None
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with quiet(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")  # to align what has none
        with fake:
            networks = {
                part: _network(class_of(settings.path, index, part), folder / part, dtype)
                for part, dtype in dtypes.items()
            }
        pipeline = open_folder(settings.path, folder, family.pipeline, {}, {}, networks)
        kind = few_step_kind(settings.loras)
        if kind is not None and settings.few_step is not False:
            set_scheduler(pipeline, kind)
        model = family.model(
            pipeline,
            None,
            device=torch.device("cpu"),
            few_step=settings.few_step,
            offload=False,
            fingerprint=lambda: "",
        )
    weights = {part: sum(each.nbytes for each in network.parameters()) for part, network in networks.items()}
    return BlankModel(model, fake, weights)


def _network(part_class: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A network without values, in a precision."""
    with _making(dtype):
        if hasattr(part_class, "load_config"):  # of diffusers
            return part_class.from_config(part_class.load_config(folder))
        return part_class(part_class.config_class.from_pretrained(folder))


@contextmanager
def _making(dtype: torch.dtype) -> Iterator[None]:
    """Make new tensors in a precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
