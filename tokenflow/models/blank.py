"""A model of its real sizes whose tensors have shapes and no memory, made from its configuration files."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tokenflow.config import Model as ModelSettings
from tokenflow.events import listening
from tokenflow.models.adapters.few_step_loras import few_step_sampling, find_few_step_lora
from tokenflow.models.adapters.files import is_here
from tokenflow.models.adapters.loras import load_loras
from tokenflow.models.checkpoints.controlnet_file import SETTING, unloaded
from tokenflow.models.checkpoints.file_kinds import is_file_name
from tokenflow.models.checkpoints.folder import INDEX, class_of, open_folder, read_index
from tokenflow.models.checkpoints.hub import cached_file, cached_path, kept_name
from tokenflow.models.checkpoints.network import CONFIG, read_config
from tokenflow.models.checkpoints.quiet import quiet
from tokenflow.models.families import Family, family_of
from tokenflow.models.model import Model
from tokenflow.models.placement import Precision, choose_device, choose_dtype
from tokenflow.models.quantization import Kind, Quantization, quantised_bytes, weight_bytes

DENOISERS = ("unet", "transformer")


@dataclass(frozen=True, eq=False)
class BlankModel:
    """A model without values.

    Attributes:
        model: to be called within `fake` only.
        fake: torch's mode in which tensors have no memory.
        weights: bytes by part, in the precision that they would be loaded in, with LoRAs.
    """

    model: Model
    fake: FakeTensorMode
    weights: Mapping[str, int]

    @property
    def denoiser(self) -> int:
        """Bytes of the network that predicts."""
        return sum(size for part, size in self.weights.items() if part in DENOISERS)

    def control(self, path: str) -> Any:
        """The ControlNet at a folder, file or Hub id, without values; None where it is not on this machine, or is of a
        class that does not exist.

        Raises:
            ModelError: a file holds something else, or its configuration is damaged.
        """
        network: Any = self.model.network
        with self.fake, making(network.dtype):
            if is_file_name(path):
                return unloaded(path, network) if Path(path).is_file() else None
            config = Path(path, CONFIG) if Path(path).is_dir() else cached_file(path, CONFIG)
            if config is None or not config.is_file():
                return None
            name = read_config("ControlNet", SETTING, path, config).get("_class_name")
            part_class = getattr(diffusers, str(name), None)
            return None if part_class is None else _network(part_class, config.parent, network.dtype)


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
    """The model of some settings; None where its configuration, or one of its LoRAs, is not on this machine.

    Textual inversions and `vae` are left out: they take little, or as much as what they replace.

    Raises:
        ModelError: it is of a family that is not supported, its configuration is damaged, or a LoRA does not fit it.
        ConfigError: the device does not exist on this machine, or does not have the quantisation.
    """
    folder = settings_folder(settings)
    if folder is None or not all(is_here(lora.path) for lora in settings.loras):
        return None
    kinds = Quantization(settings.quantization, settings.text_encoder_quantization)
    device = choose_device(settings.device)
    wanted = kinds.dtype(settings.dtype, device)
    precision = Precision(choose_dtype(wanted, device), is_automatic=wanted == "auto")
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
        saved = {part: _saved_bytes(network, kinds.kind_of(part)) for part, network in networks.items()}
        pipeline = open_folder(settings.path, folder, family.pipeline, {}, {}, networks)
        model = _model(settings, family, pipeline)
    weights = {part: weight_bytes([network]) - saved[part] for part, network in networks.items()}
    return BlankModel(model, fake, weights)


def _model(settings: ModelSettings, family: Family, pipeline: Any) -> Model:
    """The model of a pipeline without values. Those of LoRAs are real, since their loaders ask for them."""
    if settings.loras:
        with listening(lambda event: None):  # loading the model itself tells what does not fit
            load_loras(pipeline, family, settings.loras)
    few_step_lora = None if settings.few_step is False else find_few_step_lora(settings.loras)
    return family.model(
        pipeline,
        None,
        device=torch.device("cpu"),
        few_step=few_step_sampling(pipeline, few_step_lora) or settings.few_step,
        offload=False,
        fingerprint=lambda: "",
    )


def _saved_bytes(network: Any, kind: Kind | None) -> int:
    """How much less the weights of a network take in a kind of quantisation."""
    return 0 if kind is None else weight_bytes([network]) - quantised_bytes(network, kind)


def _network(part_class: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A network without values, in a precision."""
    with making(dtype):
        if hasattr(part_class, "load_config"):  # of diffusers
            return part_class.from_config(part_class.load_config(folder))
        return part_class(part_class.config_class.from_pretrained(folder))


@contextmanager
def making(dtype: torch.dtype) -> Iterator[None]:
    """Make new tensors in a precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
