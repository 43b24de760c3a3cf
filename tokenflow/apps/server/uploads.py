"""Uploads in files of the service. Of a client's file name nothing is used but which of the known suffixes it has."""

import hashlib
import re
from pathlib import Path
from typing import BinaryIO

from fastapi import UploadFile

from tokenflow.apps.server.problems import Problem

OF_IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".apng")
OF_CLIPS = (
    *(".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".ogv", ".wmv"),
    *(".flv", ".3gp", ".3g2", ".mxf", ".vob", ".gif", *OF_IMAGES),
)
BY_CONTENT = {
    "video/mp4": ".mp4",
    "video/quicktime": ".mov",
    "video/webm": ".webm",
    "video/x-matroska": ".mkv",
    "image/gif": ".gif",
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
}
"""Suffixes of files whose name has none."""

CHUNK = 2**20


def suffix_of(upload: UploadFile, field: str, suffixes: tuple[str, ...]) -> str:
    """One of the known suffixes.

    Raises:
        Problem: it is of none of these kinds.
    """
    written = Path(upload.filename or "").suffix.lower()
    found = written if written in suffixes else BY_CONTENT.get(upload.content_type or "")
    if found not in suffixes:
        raise Problem(415, f"{field}: expected a file named *{', *'.join(suffixes)}, got {written[:12]!r}", field)
    return suffixes[suffixes.index(found)]


def store(upload: UploadFile, path: Path, field: str, megabytes: float) -> str:
    """Write an upload to a file; its SHA-256.

    Raises:
        Problem: it is larger than allowed.
    """
    digest, size = hashlib.sha256(), 0
    source: BinaryIO = upload.file
    with path.open("wb") as file:
        while chunk := source.read(CHUNK):
            size += len(chunk)
            if size > megabytes * 1e6:
                raise Problem(413, f"{field}: expected at most {megabytes:g} MB", field)
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def frame_number(upload: UploadFile) -> int:
    """The number of an edited frame, from the end of its name: 12 of frame_00012.png.

    Raises:
        Problem: its name has none.
    """
    match = re.search(r"(\d{1,9})\.\w+$", upload.filename or "")
    if match is None:
        raise Problem(422, "keyframes[]: expected files named after their frame, such as frame_12.png", "keyframes[]")
    return int(match[1])
