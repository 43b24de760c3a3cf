"""Numbers with their units, as people read them."""


def format_bytes(count: float) -> str:
    """A number of bytes to three digits, with its unit."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
