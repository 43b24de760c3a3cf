"""HEIF images of HEVC tiles, as phones write them; FFmpeg reads but does not write them."""

import io
import struct
from fractions import Fraction

import av


def heif_of_tiles(images, columns):
    """A file whose primary image is a grid of images (H W 3) of one size, row by row (ISO/IEC 23008-12)."""
    tiles = [_encode(image) for image in images]
    (height, width), rows = images[0].shape[:2], len(images) // columns
    size = columns * width, rows * height
    grid = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, *size)
    contents = [grid, *(content for _, content in tiles)]  # of item 1, the grid, and of items 2, 3, …, its tiles
    ids = range(2, len(contents) + 1)
    kind = _box("ftyp", b"heic\0\0\0\0mif1heic")
    empty = _meta(contents, ids, tiles[0][0], (width, height), size, 0)
    meta = _meta(contents, ids, tiles[0][0], (width, height), size, len(kind) + len(empty) + 8)
    return kind + meta + _box("mdat", *contents)


def _encode(image):
    """Decoder configuration (hvcC) and bitstream of one image."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("libx265", rate=1, options={"x265-params": "log-level=error"})
        (stream.height, stream.width), stream.pix_fmt = image.shape[:2], "yuv420p"
        stream.codec_context.max_b_frames = 0  # x265 may otherwise reorder more frames than there are
        output.start_encoding()
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts, frame.time_base = 0, Fraction(1)
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as container:
        packets = [bytes(packet) for packet in container.demux() if packet.size]
        return bytes(container.streams.video[0].codec_context.extradata), b"".join(packets)


def _meta(contents, ids, configuration, tile_size, size, begin):
    """The items, how they belong together, and where they are, if the first is at a byte of the file."""
    items = [_full_box("infe", 2, struct.pack(">HH5s", 1, 0, b"grid"))]
    items += [_full_box("infe", 2, struct.pack(">HH5s", each, 0, b"hvc1")) for each in ids]
    references = _box("dimg", struct.pack(f">HH{len(ids)}H", 1, len(ids), *ids))
    sizes = [_full_box("ispe", 0, struct.pack(">II", *each)) for each in (tile_size, size)]
    properties = _box("ipco", _box("hvcC", configuration), *sizes)
    belonging = struct.pack(">IHBB", len(contents), 1, 1, 3)
    belonging += b"".join(struct.pack(">HBBB", each, 2, 0x81, 2) for each in ids)
    places = b""
    for item, content in enumerate(contents, 1):
        places += struct.pack(">HHHII", item, 0, 1, begin, len(content))
        begin += len(content)
    return _full_box(
        "meta",
        0,
        _full_box("hdlr", 0, b"\0\0\0\0pict" + b"\0" * 13),
        _full_box("pitm", 0, struct.pack(">H", 1)),
        _full_box("iloc", 0, struct.pack(">HH", 0x4400, len(contents)), places),
        _full_box("iinf", 0, struct.pack(">H", len(contents)), *items),
        _full_box("iref", 0, references),
        _box("iprp", properties, _full_box("ipma", 0, belonging)),
    )


def _box(kind, *parts):
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), kind.encode()) + content


def _full_box(kind, version, *parts):
    return _box(kind, struct.pack(">I", version << 24), *parts)
