"""What the settings of an edit say of the number of frames, looked at as soon as these are counted."""

from tokenflow.config import Config
from tokenflow.errors import ConfigError
from tokenflow.pipeline.masks import count_masks


def check_frame_count(config: Config, frame_count: int) -> None:
    """See that a clip of so many frames can be edited and measured as the configuration says.

    Raises:
        ConfigError: `edit.keyframe_interval` is longer than the clip, or `metrics.mask` has another number of frames.
        ClipError, ClipNotFoundError: the mask cannot be read.
    """
    interval = config.edit.keyframe_interval or 1
    if config.edit.propagation == "tokenflow" and interval > frame_count:
        raise ConfigError(
            f"edit.keyframe_interval is {interval}, and the clip has {frame_count} frames; expected 1 to "
            f"{frame_count}, or null, which fits itself to the clip"
        )
    mask = config.metrics.mask
    masks = None if mask is None else count_masks(mask, config.clip)
    if masks not in (None, frame_count):
        raise ConfigError(
            f"metrics.mask has {masks} frames where the clip has {frame_count}; give it as many, or one for all"
        )
