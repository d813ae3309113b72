"""Images whose pixels are indices, in PNG, and the sizes of PNG and JPEG images.

NumPy and zlib are enough for what label images are: greyscale or palette, up to 8 bits, not
interlaced. Libraries that show images turn a palette into colours, and the indices are gone.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy import ndarray as Array

from .files import broken, read

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOURS = {0: "greyscale", 2: "RGB", 3: "palette", 4: "greyscale with alpha", 6: "RGB with alpha"}
WHAT = "an image of indices (PNG)"


def indices(path: str | Path) -> Array:
    """The index of each pixel of a greyscale or palette PNG of 1 to 8 bits: H W in uint8."""
    H, W, depth, packed = _content(path)
    columns = -(-W * depth // 8)
    expander, count = zlib.decompressobj(), H * (columns + 1)
    try:
        data = expander.decompress(packed, count + 1)
    except zlib.error as error:
        _fail(path, f"its pixels cannot be unpacked ({error})", "whole ones")
    if len(data) != count:
        size = "fewer" if len(data) < count else "more"
        _fail(path, f"it has {size} bytes of pixels than {count}", f"{H} rows of 1 + {columns}")
    rows = np.frombuffer(data, np.uint8).reshape(H, 1 + columns)
    if rows[:, 0].max() > 4:
        row = int(np.argmax(rows[:, 0] > 4))
        _fail(path, f"row {row} has filter {rows[row, 0]}", "0 to 4")
    pixels = _unfiltered(rows[:, 0].astype(np.intp), rows[:, 1:])
    if depth < 8:
        bits = np.unpackbits(pixels, axis=1).reshape(H, -1, depth)
        pixels = np.packbits(bits, axis=2)[..., 0] >> (8 - depth)
    return pixels[:, :W]


def _content(path: str | Path) -> tuple[int, int, int, bytes]:
    """H, W, bits of a pixel, and the packed pixels."""
    parts = _chunks(path, read(path, WHAT))
    H, W, depth, colour, interlaced = _header(path, next(parts, (b"", b"")))
    if colour not in (0, 3) or depth not in (1, 2, 4, 8):
        kind = f"{COLOURS.get(colour, colour)} with {depth} bits"
        rule = "greyscale or a palette, and up to 8 bits, 1, 2, 4 or 8: indices"
        _fail(path, f"its colours are {kind}", rule)
    if interlaced:
        _fail(path, "it is interlaced", "an image that is not")
    return H, W, depth, b"".join(body for kind, body in parts if kind == b"IDAT")


def _header(path: str | Path, first: tuple[bytes, bytes]) -> tuple[int, int, int, int, int]:
    kind, body = first
    if kind != b"IHDR" or len(body) != 13:
        _fail(path, f"it begins with a chunk {kind.decode('latin1')!r}", "'IHDR', of 13 bytes")
    W, H, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", body)
    if min(H, W) < 1 or max(H, W) >= 2**31:
        _fail(path, f"its size is {H} x {W}", "sides of 1 to 2^31 - 1 pixels")
    return H, W, depth, colour, interlaced


def _chunks(path: str | Path, data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The kind and the body of each chunk of a PNG, whose check sums are right."""
    if data[:8] != SIGNATURE:
        _fail(path, f"it begins with {data[:8]!r}", f"the signature {SIGNATURE!r}")
    at, kind = 8, b""
    while kind != b"IEND":
        length = int.from_bytes(data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        end = at + 12 + length
        if end > len(data):
            _fail(path, f"it ends at byte {len(data)}", f"{end} or more, and a last chunk 'IEND'")
        if zlib.crc32(kind + body) != int.from_bytes(data[end - 4 : end]):
            _fail(path, f"the chunk at byte {at} has a wrong check sum", "that of its bytes")
        yield kind, body
        at = end


def _unfiltered(kinds: Array, rows: Array) -> Array:
    """The bytes H n behind the filters 0 to 4 of the rows: none, left, above, mean, Paeth.

    A byte needs those to the left, above, and above on the left; so those of a diagonal, from the
    top right to the bottom left, need only earlier diagonals, and are computed at once.
    """
    H, n = rows.shape
    padded = np.zeros((H + 1, n + 1), np.int16)  # outside, bytes are 0
    padded[1:, 1:] = rows
    flat = padded.reshape(-1)
    for diagonal in range(H + n - 1):
        first, last = max(0, diagonal - n + 1), min(diagonal, H - 1)
        start = (first + 1) * (n + 1) + diagonal - first + 1
        stop = start + (last - first) * n + 1

        def seen(back: int, start: int = start, stop: int = stop) -> Array:
            return flat[start - back : stop - back : n]

        a, b, c = seen(1), seen(n + 1), seen(n + 2)
        by_a, by_b, by_c = abs(b - c), abs(a - c), abs(a + b - 2 * c)
        paeth = np.where((by_a <= by_b) & (by_a <= by_c), a, np.where(by_b <= by_c, b, c))
        guess = np.choose(kinds[first : last + 1], (0 * a, a, b, (a + b) >> 1, paeth))
        seen(0)[...] = (seen(0) + guess) & 255
    return padded[1:, 1:].astype(np.uint8)


def labels(
    path: str | Path, classes: dict[int, int], expected: str, size: tuple[int, int] | None = None
) -> Array:
    """The class of each index of an image, in int64; an index without one is an error."""
    found = indices(path)
    check_size(path, found.shape, size, "its image")
    table = np.full(256, -2)
    table[list(classes)] = list(classes.values())
    result = table[found]
    if (result == -2).any():
        row, column = (int(a[0]) for a in np.nonzero(result == -2))
        broken(path, f"at row {row}, column {column}: its index is {found[row, column]}", expected)
    return result


def check_size(
    path: str | Path, own: tuple[int, ...], size: tuple[int, int] | None, of: str
) -> None:
    """The size that a file says, (H, W), is that which another says (None: is not compared)."""
    if size is not None and tuple(own) != tuple(size):
        broken(path, f"has size {own[0]} x {own[1]}", f"{size[0]} x {size[1]}, that of {of}")


def size(path: str | Path) -> tuple[int, int]:
    """(H, W) from the header of a PNG or JPEG image; a turn that EXIF asks for is not made."""
    data = read(path, "an image (PNG or JPEG)")
    if data[:8] == SIGNATURE:
        return _header(path, next(_chunks(path, data)))[:2]
    if data[:2] != b"\xff\xd8":
        _fail(path, f"it begins with {data[:8]!r}", "the signature of PNG or JPEG")
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # the start of a frame
            return int.from_bytes(data[at + 5 : at + 7]), int.from_bytes(data[at + 7 : at + 9])
        at += 1 if marker == 0xFF else 2 + length
    _fail(path, f"it has no header of a frame up to byte {at}", "one, with the size")


def _fail(path: str | Path, problem: str, expected: str) -> NoReturn:
    broken(path, f"is no image of this kind: {problem}", expected)
