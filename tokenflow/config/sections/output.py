"""The result, and what is measured on it."""

from typing import Literal

from pydantic import Field

from tokenflow.config.sections.section import LocalPath, PathOrHubId, Section


class Output(Section):
    """The result folder: where it is, what it holds, and how videos are encoded."""

    dir: LocalPath = Field(description="Folder for the results. An earlier result in it is replaced.")
    container: Literal["mp4", "mov", "mkv", "webm", "gif", "webp", "apng"] = Field(
        "mp4",
        description="File format of the videos. With gif, webp and apng the edit plays in a loop without sound, and "
        "the comparison is an mp4.",
    )
    codec: Literal["h264", "hevc", "vp9", "av1", "prores", "ffv1"] | None = Field(
        None,
        description="Codec of the videos; null for h264, or vp9 in webm; gif, webp and apng have one each. ffv1 is "
        "lossless (in mkv); h264 and hevc need even sides, and repeat the last row or column of an odd one.",
    )
    sound: Literal["auto", "copy", "encode", "none"] = Field(
        "auto",
        description="Sound of the edit: auto copies it if most players play it in this container, and encodes it "
        "otherwise; copy copies it if the container holds it at all; encode always encodes it; none leaves it out.",
    )
    quality: int | None = Field(
        None,
        ge=0,
        le=63,
        description="Constant rate factor of the codec, 0 to 63: lower looks better and takes more space. null for the "
        "codec's default here, which is visually lossless; prores and ffv1 have none.",
    )
    pngs: bool = Field(False, description="Also write every edited frame as a PNG, in frames/.")
    comparison: bool = Field(True, description="Write a video of source and edit side by side.")
    contact_sheet: bool = Field(True, description="Write contact_sheet.png: frames of source and edit, in two rows.")
    page: bool = Field(True, description="Write report.html: videos, metrics and settings on one page.")


class Metrics(Section):
    """What is measured on the edit."""

    enabled: bool = Field(
        True,
        description="Measure every edit: warp error, flicker, detail, change, and what clip, classifier and mask add "
        "(docs/metrics.md).",
    )
    clip: PathOrHubId | None = Field(
        None,
        description="CLIP model for the text and consistency scores: a folder or a Hub id, such as "
        "openai/clip-vit-base-patch32; null for neither score.",
    )
    classifier: PathOrHubId | None = Field(
        "auto",
        description="Classifier that tells in which frames the prompt is seen: a folder; auto for one that lies beside "
        "the model's folder and knows all words of its vocabulary.json, as the bundled one does; null for none. "
        "report.json says which was used.",
    )
    mask: LocalPath | None = Field(
        None,
        description="White where the edit is meant to change something: one image for all frames, or a clip with as "
        "many frames as the source. Splits the change into inside and outside; null if unknown.",
    )
