"""Stage: encodes the scenes of tools.mini_sd.latents with Sana's autoencoder."""

import argparse
from pathlib import Path

from tools.mini_sana.autoencoder import load_autoencoder
from tools.mini_sd.latents import SHARD, write_shards
from tools.mini_sd.training import RUNS, choose_device

FOLDER = "sana_latents"


def main() -> None:
    """Makes the shards that are missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--scenes", type=int, default=40 * SHARD)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    write_shards(load_autoencoder(arguments.runs, device), arguments.runs / FOLDER, arguments.scenes, device)


if __name__ == "__main__":
    main()
