"""Stage: fetches photographs for the autoencoder out of Debian's wallpaper packages, and keeps them small enough to be
carried to a machine that cannot fetch them.

    python -m tools.mini_sd.photographs

Needs apt-get and dpkg-deb. Nothing of them is committed: they are under free licences of their own (PACKAGES), which
/usr/share/doc/PACKAGE/copyright in each package gives picture by picture.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

import cv2
import numpy as np

from tools.mini_sd.training import RUNS

PACKAGES = {
    "lomiri-wallpapers-16.04": "CC-BY-4.0, CC-BY-SA-4.0, CC0-1.0",
    "lomiri-wallpapers-20.04": "CC-BY-SA-3.0",
    "mate-backgrounds": "GPL-2+, CC-BY-SA-4.0",
    "plasma-workspace-wallpapers": "GPL-2+",
    "ukui-wallpapers": "CC-BY-SA-3.0",
}
SHORTER_SIDES = 320, 640  # pixels; a photograph is kept at both, so that crops show much of it, or its details
JPEG = (cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
SUFFIXES = (".jpg", ".jpeg", ".png")
LEAST_WIDTH = 1000  # below it are previews
LEAST_DETAIL = (
    2.0  # mean step from a pixel to its neighbours, of 255, at the smallest size; below it is little to learn
)


def fetch(package: str, folder: Path) -> list[Path]:
    """Downloads and unpacks a package; returns its wide pictures."""
    subprocess.run(["apt-get", "download", package], cwd=folder, check=True, capture_output=True)
    (archive,) = folder.glob(f"{package}_*.deb")
    unpacked = folder / package
    subprocess.run(["dpkg-deb", "-x", archive, unpacked], check=True)
    return sorted(file for file in unpacked.rglob("*") if file.suffix in SUFFIXES and not file.is_symlink())


def shrink(picture: np.ndarray, side: int) -> np.ndarray:
    """The picture with a shorter side of `side` pixels."""
    scale = side / min(picture.shape[:2])
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def detail(picture: np.ndarray) -> float:
    """Mean absolute step of the lightness from a pixel to the next one, of 255, across plus down."""
    grey = cv2.cvtColor(shrink(picture, SHORTER_SIDES[0]), cv2.COLOR_BGR2GRAY).astype(np.float32)
    return sum(float(np.abs(np.diff(grey, axis=axis)).mean()) for axis in (0, 1))


def load_photographs(runs: Path) -> list[np.ndarray]:
    """Every kept photograph at every size, H W 3, RGB, 8 bits."""
    files = sorted((runs / "photographs").glob("*.jpg"))
    if not files:
        raise FileNotFoundError(f"no photographs in {runs}; run `python -m tools.mini_sd.photographs` first")
    return [cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB) for file in files]


def main() -> None:
    """Fetches every package that is missing, and keeps its photographs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=RUNS)
    kept = parser.parse_args().runs / "photographs"
    kept.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        if any(kept.glob(f"{package}-[0-9][0-9]-*.jpg")):
            continue
        with tempfile.TemporaryDirectory() as folder:
            pictures = [cv2.imread(str(file)) for file in fetch(package, Path(folder))]
        wide = [picture for picture in pictures if picture.shape[1] >= max(LEAST_WIDTH, picture.shape[0])]
        detailed = [picture for picture in wide if detail(picture) >= LEAST_DETAIL]
        for place, picture in enumerate(detailed):
            for side in SHORTER_SIDES:
                cv2.imwrite(str(kept / f"{package}-{place:02d}-{side}.jpg"), shrink(picture, side), JPEG)
        print(f"{package}: {len(detailed)} photographs ({PACKAGES[package]})", flush=True)


if __name__ == "__main__":
    main()
