"""Stage: encodes the scenes of tools.mini_sd.latents with Sana's autoencoder."""

from tools.mini_sana.autoencoder import load_autoencoder
from tools.mini_sd.latents import scene_arguments, write_shards
from tools.mini_sd.training import choose_device

FOLDER = "sana_latents"


def main() -> None:
    """Makes the shards that are missing."""
    arguments = scene_arguments(__doc__)
    device = choose_device(arguments.device)
    write_shards(load_autoencoder(arguments.runs, device), arguments.runs / FOLDER, arguments, device)


if __name__ == "__main__":
    main()
