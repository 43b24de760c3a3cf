"""From a name to a model, and to what tells it from others."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from tokenflow.config import LoRA, TextualInversion
from tokenflow.errors import ConfigError, ModelError
from tokenflow.events import Listener, listening, notice, progress
from tokenflow.models.adapters.adapted import Adapted, Switch
from tokenflow.models.adapters.few_step_loras import few_step_sampling, find_few_step_lora, notice_few_step_lora
from tokenflow.models.adapters.files import adapter_fingerprint
from tokenflow.models.adapters.loras import check_loras, load_loras
from tokenflow.models.adapters.textual_inversions import check_textual_inversions, load_textual_inversions
from tokenflow.models.checkpoints import hub
from tokenflow.models.checkpoints.file_kinds import is_file_name
from tokenflow.models.checkpoints.folder import CONFIG, INDEX
from tokenflow.models.checkpoints.gguf_file import is_gguf
from tokenflow.models.checkpoints.quiet import quiet
from tokenflow.models.compiling import compile_blocks
from tokenflow.models.identity import path_fingerprint
from tokenflow.models.model import Model
from tokenflow.models.opening import find_folder, open_file, open_model_folder
from tokenflow.models.placement import Precision, choose_device, choose_dtype
from tokenflow.models.presets import full_name
from tokenflow.models.quantization import Quantization
from tokenflow.models.vocabulary import read_vocabulary


def load_model(
    path: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    base: str | None = None,
    revision: str | None = None,
    variant: str | None = None,
    vae: str | None = None,
    prediction_type: str | None = None,
    few_step: bool | None = None,
    loras: Sequence[LoRA] = (),
    textual_inversions: Sequence[TextualInversion] = (),
    quantization: str | None = None,
    text_encoder_quantization: str | None = None,
    offload: bool = False,
    tiling: bool = False,
    compile: bool = False,
    on_event: Listener | None = None,
) -> Model:
    """The model in a folder in diffusers' layout, in a `.safetensors` or GGUF file, under a Hub id, or of a short name.

    Args:
        path: where it is; or the short name of a published one, as `tokenflow models` lists them.
        device: any of torch's device names; `auto` takes CUDA, then MPS, then the CPU.
        dtype: float32, float16 or bfloat16; `auto` takes float16 on CUDA (bfloat16 for Sana and FLUX), on a CPU
            whichever is fast. Text encoders of both, and Sana's autoencoder, are never loaded in float16.
        base: for a `.safetensors` file, the folder or Hub id of the model it descends from, whose configuration,
            tokenizer and scheduler it uses. By default the original model of its version, from the Hub.
        revision: branch, tag or commit on the Hub.
        variant: of the weights, such as `fp16`, for parts that have it. By default full precision where there is a
            choice, or `fp16` for a model that is loaded in float16.
        vae: folder, `.safetensors` file or Hub id of an autoencoder to use in place of the model's own.
        prediction_type: what the network predicts (`epsilon`, `v_prediction` or `sample`), if its scheduler is wrong
            about it.
        few_step: whether the model was distilled to few steps; None to go by its scheduler, or by its LoRAs.
        loras: act on edits, while the model without them inverts. LCM, Lightning, Hyper-SD and other
            few-step LoRAs, known by their names, set few-step mode unless `few_step` is False.
        textual_inversions: words to add to its text encoders.
        quantization: how the linear layers of the network that predicts are stored: `int8`, `fp8`, `int4` or `nvfp4`
            (models/quantization.py); None for `dtype`. LoRAs act on top of it.
        text_encoder_quantization: the same of the text encoders.
        offload: keep idle parts in main memory.
        tiling: encode and decode large images in overlapping tiles, which bounds the autoencoder's memory.
        compile: compile the blocks of the network that predicts when they are first called (models/compiling.py).
        on_event: called with notices, and with `Progress` of the stage `load`, whose label says what is loaded, where
            and in which precision; of the stage `download` in bytes. Without it, downloads draw the Hub's own bars
            (`huggingface_hub.utils.disable_progress_bars` stops that).

    Raises:
        ModelNotFoundError: there is nothing at `path`, or it is not on the Hub, or the Hub is unreachable.
        ModelError: what is there is of an unsupported family, incomplete, damaged, or pickled.
        ConfigError: `device` does not exist on this machine, `dtype` is unknown, or the device or the precision does
            not have the quantisation.
    """
    path = full_name(str(path))
    where = choose_device(device)
    kinds = Quantization(quantization, text_encoder_quantization)
    precision = _precision(dtype, where, kinds)
    if quantization is not None and is_gguf(path):
        raise ConfigError(f"the model {path!r} is quantised as it is in its file; set model.quantization to null")
    # Setting it explicitly stops MKL from picking fewer threads, which would change rounding.
    torch.set_num_threads(torch.get_num_threads())
    label = ", ".join(
        [f"{path} on {where}", str(precision), *(f"{name} {kind}" for name, kind in kinds.settings.items())]
    )
    with listening(on_event), progress("load", 1, on_event, label=label) as advance, quiet():
        check_loras(loras)
        check_textual_inversions(textual_inversions)
        if is_file_name(path) or is_gguf(path):
            unused = {"model.variant": variant, "model.revision": revision if hub.file_on_hub(path) is None else None}
            path = hub.local_file(path, "model.path", revision)
            folder, commit = Path(path), None
            _notice_unused(f"the model file {path!r}", unused)
            family, pipeline = open_file(path, base, vae, prediction_type, precision)
        else:
            path = hub.current_name(path, "model.path")
            folder, commit = find_folder(path, revision)
            unused = {"model.base": base, "model.revision": revision if commit is None else None}
            _notice_unused(f"the model folder {path!r}", unused)
            family, pipeline = open_model_folder(path, folder, commit, variant, vae, prediction_type, precision)
        words = load_textual_inversions(pipeline, textual_inversions)
        kinds.apply({part: getattr(pipeline, part) for part in family.networks}, where)
        if loras:
            load_loras(pipeline, family, loras)
        few_step_lora = None if few_step is False else find_few_step_lora(loras)
        if few_step_lora is not None:
            notice_few_step_lora(pipeline, few_step_lora)
        pipeline.to("cpu" if offload else where)
        if tiling:
            _enable_tiling(pipeline.vae)
        advance(1)
    identifying = partial(
        _identifying, precision, kinds, base, tiling, variant, vae, prediction_type, few_step, loras, textual_inversions
    )
    vocabulary = read_vocabulary(folder)
    added = [*words, *(word for lora in loras for word in lora.triggers)]
    model = family.model(
        pipeline,
        None if vocabulary is None else vocabulary.with_words(added),
        device=where,
        few_step=few_step_sampling(pipeline, few_step_lora) or few_step,
        offload=offload,
        fingerprint=lambda: path_fingerprint(path, commit, **identifying()),
    )
    if compile:
        compile_blocks(model.blocks)
    if not loras:
        return model
    identities = [f"{adapter_fingerprint(lora.path)} {lora.scale}" for lora in loras]
    return cast("Model", Adapted(model, Switch(pipeline), " ".join(identities), loras))


def stored_fingerprint(
    path: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    base: str | None = None,
    revision: str | None = None,
    variant: str | None = None,
    vae: str | None = None,
    prediction_type: str | None = None,
    few_step: bool | None = None,
    loras: Sequence[LoRA] = (),
    textual_inversions: Sequence[TextualInversion] = (),
    quantization: str | None = None,
    text_encoder_quantization: str | None = None,
    tiling: bool = False,
) -> str:
    """The fingerprint of the model that `load_model` would load from the same arguments, without loading it.

    It is that of the model's `base`: of its LoRAs only the kind that sets few-step mode counts. Of a Hub id it is that
    of the commit in the local cache.

    Raises:
        ConfigError: as `load_model`.
    """
    name = hub.cached_path(hub.kept_name(path), revision)
    commit = hub.cached_commit(name, INDEX, revision)
    kinds = Quantization(quantization, text_encoder_quantization)
    precision = _precision(dtype, choose_device(device), kinds)
    identifying = _identifying(
        precision, kinds, base, tiling, variant, vae, prediction_type, few_step, loras, textual_inversions
    )
    return path_fingerprint(name, commit, **identifying)


def control_fingerprint(path: str) -> str:
    """The fingerprint of the ControlNet at a folder, file or Hub id, once it has been loaded."""
    return path_fingerprint(hub.cached_path(path), hub.cached_commit(path, CONFIG))


def _notice_unused(what: str, settings: Mapping[str, str | None]) -> None:
    """Notices of settings that are given and say nothing about a model of this kind."""
    for setting, value in settings.items():
        if value is not None:
            notice(f"{setting} has no effect on {what}; set it to null")


def _enable_tiling(vae: Any) -> None:
    try:
        vae.enable_tiling()
    except (AttributeError, NotImplementedError) as error:
        raise ModelError(
            f"the VAE is a {type(vae).__name__}, which has no tiles; set model.tiling to false, or model.vae to another"
        ) from error


def _precision(dtype: str, device: torch.device, kinds: Quantization) -> Precision:
    wanted = kinds.dtype(dtype, device)
    return Precision(choose_dtype(wanted, device), is_automatic=wanted == "auto")


def _identifying(
    precision: Precision,
    kinds: Quantization,
    base: str | None,
    tiling: bool,
    variant: str | None,
    vae: str | None,
    prediction_type: str | None,
    few_step: bool | None,
    loras: Sequence[LoRA],
    textual_inversions: Sequence[TextualInversion],
) -> dict[str, str]:
    """The settings that change what a model without its LoRAs computes."""
    words = [f"{adapter_fingerprint(each.path)} {each.token}" for each in textual_inversions]
    few_step_lora = None if few_step is False else find_few_step_lora(loras)
    chosen = {
        "variant": variant,
        "vae": None if vae is None else path_fingerprint(hub.cached_path(vae), _vae_commit(hub.kept_name(vae))),
        "prediction_type": prediction_type,
        "few_step": None if few_step is None else str(few_step),
        "few_step_lora": None if few_step_lora is None else str(few_step_lora.sampling),
        "textual_inversions": " ".join(words) or None,
        **kinds.settings,
        "half": "automatic" if precision.is_automatic_half else None,  # which of the two depends on the family
    }
    return {
        "dtype": str(precision.dtype),
        "base": "None" if base is None else path_fingerprint(base),
        "tiling": str(tiling),
        **{name: value for name, value in chosen.items() if value is not None},
    }


def _vae_commit(path: str) -> str | None:
    """The commit in the local cache of the repository of a VAE, or of a model with one."""
    return hub.cached_commit(path, CONFIG) or hub.cached_commit(path, f"vae/{CONFIG}")
