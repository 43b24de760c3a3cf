"""Stage: writes what was trained as fp16 safetensors that load with nothing of ours installed.

MODELS/mini-sd                      StableDiffusionPipeline.from_pretrained
MODELS/mini-controlnet-canny        ControlNetModel.from_pretrained
MODELS/mini-classifier              scene_classifier.py, which is copied beside it
STATE                               with --training: averaged weights alone, in small shards, to go on from on another
                                    machine; --restore puts them where the stages look, if there is nothing yet
"""

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from tokenflow.metrics import scene_classifier
from tools.mini_sd.autoencoder import load_autoencoder
from tools.mini_sd.classifier import load_classifier
from tools.mini_sd.controlnet import load_controlnet
from tools.mini_sd.diffusion import load_diffusion
from tools.mini_sd.latents import load_scenes
from tools.mini_sd.sampling import assemble
from tools.mini_sd.training import RUNS, checkpoint_step, save_tensors

MODELS = Path("data/models")
STATE = Path("tools/mini_sd/state")
SHARD_BYTES = 7_500_000
TRAINED = ("autoencoder", "diffusion", "controlnet", "classifier", "clip", "flux", "flux_guidance", "flux_schnell")
TRAINED += ("klein", "sana_autoencoder", "sana", "sana_controlnet", "sana_guidance", "sana_sprint")
CPU = torch.device("cpu")


def export_pipeline(runs: Path, folder: Path) -> None:
    """Autoencoder, UNet, text encoder, tokenizer and schedule, and the words that the model knows."""
    autoencoder = load_autoencoder(runs, CPU)
    autoencoder.register_to_config(scaling_factor=load_scenes(runs / "latents").scale)
    assemble(autoencoder, *load_diffusion(runs, CPU)).to(dtype=torch.float16).save_pretrained(folder)
    load_in_single_precision(folder / "text_encoder" / "config.json")
    load_with_older_transformers(folder)
    shutil.copy(runs / "tokenizer" / "vocabulary.json", folder / "vocabulary.json")


def load_in_single_precision(config: Path) -> None:
    """Makes an encoder's configuration name single precision.

    Unless told otherwise, transformers loads in the precision that is named here, diffusers always in single."""
    settings = json.loads(config.read_text()) | {"dtype": "float32"}
    config.write_text(json.dumps(settings, indent=2) + "\n")


def load_with_older_transformers(folder: Path) -> None:
    """Version 4 wants the vocabulary and its merges in files of their own, and a prefix before the encoder's weights.

    Without the prefix it would go on with random ones. Version 5 takes both.
    """
    file = folder / "text_encoder" / "model.safetensors"
    weights = load_file(file)
    prefixed = {f"text_model.{key.removeprefix('text_model.')}": value for key, value in weights.items()}
    save_tensors(prefixed, file, {"format": "pt"})
    place = folder / "tokenizer"
    model = json.loads((place / "tokenizer.json").read_text())["model"]
    (place / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False) + "\n")
    merges = [" ".join(pair) for pair in model["merges"]]
    (place / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")


def export_classifier(runs: Path, folder: Path) -> None:
    """Weights, the words of each head, and the module that loads them."""
    network = load_classifier(runs, CPU).half()
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(network.state_dict(), folder / "model.safetensors", {})
    kinds = {kind: list(words) for kind, words in network.kinds.items()}
    (folder / "config.json").write_text(json.dumps({"kinds": kinds}, indent=2) + "\n")
    shutil.copy(scene_classifier.__file__, folder / "scene_classifier.py")


def export_controlnet(runs: Path, folder: Path) -> None:
    """As it is trained, in half precision."""
    load_controlnet(runs, CPU).half().save_pretrained(folder)


def export_training(runs: Path, folder: Path) -> None:
    """The averaged weights of every stage in half precision: a checkpoint to continue from, without optimiser state."""
    for stage in TRAINED:
        source = runs / stage / "state.safetensors"
        if not source.exists():
            continue
        averages = {key: value for key, value in load_file(source).items() if key.startswith("average.")}
        halves = {key: value.half() if value.is_floating_point() else value for key, value in averages.items()}
        (folder / stage).mkdir(parents=True, exist_ok=True)
        for place, shard in enumerate(into_shards(halves)):
            save_tensors(shard, folder / stage / f"{place:02d}.safetensors", {"step": str(checkpoint_step(source))})


def into_shards(tensors: dict[str, Tensor], limit: int = SHARD_BYTES) -> list[dict[str, Tensor]]:
    """The tensors in their order, in parts of at most `limit` bytes, or of one larger tensor."""
    shards: list[dict[str, Tensor]] = []
    room = 0
    for key, value in tensors.items():
        if value.nbytes > room or not shards:
            shards.append({})
            room = limit
        shards[-1][key] = value
        room -= value.nbytes
    return shards


def import_training(folder: Path, runs: Path) -> None:
    """Puts a checkpoint of `export_training` where the stages go on from; keeps what is there already."""
    for stage in TRAINED:
        shards = sorted((folder / stage).glob("*.safetensors"))
        target = runs / stage / "state.safetensors"
        if target.exists() or not shards:
            continue
        averages = {key: value.float() for shard in shards for key, value in load_file(shard).items()}
        networks = {key.replace("average.", "network.", 1): value.clone() for key, value in averages.items()}
        target.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(averages | networks, target, {"step": str(checkpoint_step(shards[0]))})
        print(f"{target} from {folder / stage}, step {checkpoint_step(shards[0])}")


EXPORTS = {
    "diffusion": (export_pipeline, "mini-sd"),
    "classifier": (export_classifier, "mini-classifier"),
    "controlnet": (export_controlnet, "mini-controlnet-canny"),
}


def export_trained(exports: dict[str, tuple[Callable[[Path, Path], None], str]], runs: Path, models: Path) -> None:
    """Writes the model of each stage that has been trained; says which has not."""
    for stage, (export, name) in exports.items():
        if (runs / stage / "state.safetensors").exists():
            export(runs, models / name)
        else:
            print(f"{stage} has not been trained in {runs}: {models / name} stays as it is")


def main() -> None:
    """Writes what is there; says what is not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--training", action="store_true", help="write the checkpoint to go on from, and nothing else")
    parser.add_argument("--restore", action="store_true", help="read that checkpoint back into the training folder")
    arguments = parser.parse_args()
    runs, models = arguments.runs, arguments.models
    if arguments.restore:
        import_training(STATE, runs)
    elif arguments.training:
        export_training(runs, STATE)
    else:
        export_trained(EXPORTS, runs, models)


if __name__ == "__main__":
    main()
