"""Stage: takes the sprites out of npm packages of emoji (sprites/LICENSE) and keeps them as small RGBA pictures.

    npm install @lobehub/fluent-emoji-3d @iconify-json/fluent-emoji-flat @iconify-json/noto @iconify-json/twemoji \
        @iconify-json/fxemoji
    python -m tools.mini_sd.build_sprites --npm .

Needs resvg-py, for the vector drawings; no other stage does.
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import resvg_py

from tools.mini_sd.sprites import CONTENT, FEET, HELD_OUT, SIZE, SPRITES
from tools.mini_sd.words import HELD_OUT_OBJECTS, OBJECTS, STYLES, UNSEEN

VECTORS = Path("node_modules/@iconify-json")
SOFT = Path("node_modules/@lobehub/fluent-emoji-3d/assets")
FLAT = "fluent-emoji-flat"
FAMILIES = {"flat": FLAT, "cartoon": "noto", "sticker": "twemoji"}
DRAWN_AT = 512

EMOJI = {
    "rhino": "rhinoceros",
    "sheep": "ewe",
    "hippo": "hippopotamus",
    "car": "automobile",
    "fire engine": "fire-engine",
    "police car": "police-car",
    "pickup truck": "pickup-truck",
    "squirrel": "chipmunk",
    "scooter": "motor-scooter",
    "truck": "delivery-truck",
    "train": "locomotive",
}
FX_EMOJI = {
    "cat": "catside",
    "dog": "dogside",
    "tiger": "tigerside",
    "leopard": "leopardside",
    "pig": "pigside",
    "camel": "dromedarycamel",
    "car": "automobile",
    "police car": "policecar",
    "squirrel": "chipmunk",
    "truck": "deliverytruck",
    "train": "steamlocomotive",
}
HEADS_ONLY = ("zebra", "rhino", "deer", "gorilla", "hedgehog")
"""What Twemoji draws as a face; the sticker is made of the flat drawing instead."""


def vector_picture(npm: Path, family: str, name: str) -> np.ndarray:
    """The vector drawing of an emoji as BGRA, drawn large."""
    drawings = json.loads((npm / VECTORS / family / "icons.json").read_text())
    name = drawings.get("aliases", {}).get(name, {}).get("parent", name)
    size = f'viewBox="0 0 {drawings["width"]} {drawings["height"]}" width="{DRAWN_AT}" height="{DRAWN_AT}"'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{drawings["icons"][name]["body"]}</svg>'
    png = np.frombuffer(bytes(resvg_py.svg_to_bytes(svg_string=svg)), np.uint8)
    return np.asarray(cv2.imdecode(png, cv2.IMREAD_UNCHANGED))


def soft_picture(npm: Path, name: str) -> np.ndarray:
    """The shaded picture of an emoji as BGRA."""
    characters = json.loads((npm / VECTORS / FLAT / "chars.json").read_text())
    codepoint = next(point for point, emoji in characters.items() if emoji == name)
    names = (f"{codepoint}.webp", f"{codepoint}-fe0f.webp")
    file = next((npm / SOFT / name for name in names if (npm / SOFT / name).exists()), None)
    if file is None:
        raise FileNotFoundError(f"{npm / SOFT / names[0]} is missing; is the package installed under {npm}?")
    return np.asarray(cv2.imread(str(file), cv2.IMREAD_UNCHANGED))


def picture_of(npm: Path, style: str, name: str) -> np.ndarray:
    """An object in a style as BGRA, facing left as all of these families draw it."""
    emoji = EMOJI.get(name, name)
    if style == "3d":
        return soft_picture(npm, emoji)
    return vector_picture(npm, FLAT if style == "sticker" and name in HEADS_ONLY else FAMILIES[style], emoji)


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


def write(picture: np.ndarray, family: str, name: str) -> None:
    """One sprite, into the folder of its family."""
    (SPRITES / family).mkdir(parents=True, exist_ok=True)
    file = SPRITES / family / f"{name.replace(' ', '_')}.png"
    cv2.imwrite(str(file), fit(picture), [cv2.IMWRITE_PNG_COMPRESSION, 9])


def main() -> None:
    """Writes every object in every style, and those that are held out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--npm", type=Path, required=True, help="the folder where `npm install` was run")
    npm = parser.parse_args().npm
    for style in STYLES:
        for name in (*OBJECTS, *UNSEEN) if style == "3d" else OBJECTS:
            write(picture_of(npm, style, name), style, name)
    for name in HELD_OUT_OBJECTS:
        write(vector_picture(npm, "fxemoji", FX_EMOJI.get(name, name)), HELD_OUT, name)
    print(f"{len(STYLES) * len(OBJECTS) + len(UNSEEN) + len(HELD_OUT_OBJECTS)} sprites written to {SPRITES}")


if __name__ == "__main__":
    main()
