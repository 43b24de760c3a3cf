"""Stage: takes the sprites out of two npm packages of Fluent Emoji (MIT) and keeps them as small RGBA pictures.

    npm install @iconify-json/fluent-emoji-flat @lobehub/fluent-emoji-3d
    python -m tools.mini_sd.build_sprites --npm .

Needs resvg-py, for the vector drawings; no other stage does.
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import resvg_py

from tools.mini_sd.sprites import CONTENT, FEET, SIZE, SPRITES
from tools.mini_sd.words import OBJECTS, UNSEEN

FLAT = Path("node_modules/@iconify-json/fluent-emoji-flat")
SOFT = Path("node_modules/@lobehub/fluent-emoji-3d/assets")
DRAWN_AT = 512

EMOJI = {
    "rhino": "rhinoceros",
    "sheep": "ewe",
    "hippo": "hippopotamus",
    "car": "automobile",
    "fire engine": "fire-engine",
    "police car": "police-car",
    "pickup truck": "pickup-truck",
}


def flat_picture(npm: Path, name: str) -> np.ndarray:
    """The vector drawing of an emoji as BGRA, drawn large."""
    body = json.loads((npm / FLAT / "icons.json").read_text())["icons"][name]["body"]
    size = f'width="{DRAWN_AT}" height="{DRAWN_AT}"'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32" {size}>{body}</svg>'
    png = np.frombuffer(bytes(resvg_py.svg_to_bytes(svg_string=svg)), np.uint8)
    return np.asarray(cv2.imdecode(png, cv2.IMREAD_UNCHANGED))


def soft_picture(npm: Path, name: str) -> np.ndarray:
    """The shaded picture of an emoji as BGRA."""
    characters = json.loads((npm / FLAT / "chars.json").read_text())
    codepoint = next(point for point, emoji in characters.items() if emoji == name)
    file = npm / SOFT / f"{codepoint}.webp"
    picture = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise FileNotFoundError(f"{file} is missing; is the package installed under {npm}?")
    return picture


def fit(picture: np.ndarray) -> np.ndarray:
    """Crops to what is drawn, scales its longer side to CONTENT, centres it and sets it down on the line FEET."""
    rows, columns = np.nonzero(picture[..., 3] > 25)
    crop = picture[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].astype(np.float32)
    crop[..., :3] *= crop[..., 3:] / 255
    scale = CONTENT / max(crop.shape[:2])
    height, width = (round(side * scale) for side in crop.shape[:2])
    crop = cv2.resize(crop, (width, height), interpolation=cv2.INTER_AREA)
    sprite = np.zeros((SIZE, SIZE, 4), np.float32)
    left = (SIZE - width) // 2
    sprite[FEET - height : FEET, left : left + width] = crop
    sprite[..., :3] /= np.maximum(sprite[..., 3:], 1) / 255
    return np.clip(sprite.round(), 0, 255).astype(np.uint8)


def main() -> None:
    """Writes every object in both styles."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--npm", type=Path, required=True, help="the folder where `npm install` was run")
    npm = parser.parse_args().npm
    drawn = (("flat", flat_picture, OBJECTS), ("3d", soft_picture, (*OBJECTS, *UNSEEN)))
    for style, source, names in drawn:
        (SPRITES / style).mkdir(parents=True, exist_ok=True)
        for name in names:
            file = SPRITES / style / f"{name.replace(' ', '_')}.png"
            cv2.imwrite(str(file), fit(source(npm, EMOJI.get(name, name))))
    print(f"{sum(len(names) for *_, names in drawn)} sprites written to {SPRITES}")


if __name__ == "__main__":
    main()
