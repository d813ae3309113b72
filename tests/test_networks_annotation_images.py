"""PNG images of indices against Pillow, and the sizes of images; all that is wrong with a file."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from deformable_convnets.reference.networks.annotations import images

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (7, 5), dtype=np.uint8)
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def header(H=7, W=5, depth=8, colour=0, interlaced=0):
    return chunk(b"IHDR", struct.pack(">IIBBBBB", W, H, depth, colour, 0, 0, interlaced))


def filtered(pixels, kinds):
    """The rows of a greyscale image behind PNG's filters, a byte at a time."""
    H, W = pixels.shape
    around = np.zeros((H + 1, W + 1), int)
    around[1:, 1:] = pixels
    rows = bytearray()
    for y in range(H):
        rows.append(kinds[y])
        for x in range(W):
            a, b, c = (int(v) for v in (around[y + 1, x], around[y, x + 1], around[y, x]))
            p = a + b - c
            near = min((a, b, c), key=lambda v, p=p: abs(p - v))  # of equal ones the first
            guess = (0, a, b, (a + b) // 2, near)[kinds[y]]
            rows.append((int(pixels[y, x]) - guess) % 256)
    return bytes(rows)


def png(pixels, kinds):
    body = zlib.compress(filtered(pixels, kinds))
    data = [chunk(b"tEXt", b"a\0b"), chunk(b"IDAT", body[:9]), chunk(b"IDAT", body[9:])]
    return b"".join([SIGNATURE, header(*pixels.shape), *data, chunk(b"IEND", b"")])


@pytest.mark.parametrize("kinds", [[k] * 7 for k in range(5)] + [[4, 3, 2, 1, 0, 4, 3]], ids=str)
@pytest.mark.parametrize("values", [255, 3])
def test_filters(tmp_path, kinds, values):
    """Few values have many ties, where Paeth's order decides."""
    pixels, path = PIXELS % values, tmp_path / "a.png"
    path.write_bytes(png(pixels, kinds))
    with Image.open(path) as theirs:
        assert np.array_equal(np.asarray(theirs), pixels)  # our encoder is right
    found = images.indices(path)
    assert found.dtype == np.uint8
    assert np.array_equal(found, pixels)


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1), (3, 9), (33, 21)])
@pytest.mark.parametrize(
    ("mode", "colours"), [("L", 256), ("P", 256), ("P", 16), ("P", 4), ("P", 2)]
)
def test_as_pillow_writes_them(tmp_path, shape, mode, colours):
    """A palette of 16, 4 or 2 colours has 4, 2 or 1 bits for a pixel."""
    pixels, path = RNG.integers(0, colours, shape, dtype=np.uint8), tmp_path / "a.png"
    image = Image.fromarray(pixels)
    if mode == "P":
        image.putpalette(RNG.integers(0, 256, 3 * colours).tolist())
    image.save(path)
    depth = path.read_bytes()[24]
    assert depth == (8 if mode == "L" else {256: 8, 16: 4, 4: 2, 2: 1}[colours])
    assert np.array_equal(images.indices(path), pixels)
    assert images.size(path) == shape


def test_a_wrong_filter_is_seen(tmp_path, monkeypatch):
    """Paeth's choice turned round."""
    path, where = tmp_path / "a.png", np.where
    path.write_bytes(png(PIXELS, [4] * 7))
    monkeypatch.setattr(np, "where", lambda test, a, b: where(test, b, a))
    assert not np.array_equal(images.indices(path), PIXELS)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 10, "optimize": True}])
def test_size_of_jpeg(tmp_path, options):
    path = tmp_path / "a.jpg"
    Image.fromarray(RNG.integers(0, 256, (31, 17, 3), dtype=np.uint8)).save(path, **options)
    assert images.size(path) == (31, 17)
    data = path.read_bytes()
    path.write_bytes(
        data[:2] + b"\xff\xff\xe1\x00\x08Exif\0\0" + data[2:]
    )  # a fill, a part to skip
    assert images.size(path) == (31, 17)


GOOD = chunk(b"IDAT", zlib.compress(filtered(PIXELS, [0] * 7)))
END = chunk(b"IEND", b"")
BAD = {
    "begins with b'GIF89a'": b"GIF89a",
    "expected the signature": SIGNATURE[:7] + b"\r" + header() + GOOD + END,
    "begins with a chunk 'IDAT'": SIGNATURE + GOOD + header() + END,
    "begins with a chunk ''": SIGNATURE[:8] + b"\0\0\0\0",
    "its size is 0 x 5": SIGNATURE + header(H=0) + GOOD + END,
    "RGB with 8 bits, expected greyscale or a palette": SIGNATURE + header(colour=2) + GOOD + END,
    "greyscale with 16 bits": SIGNATURE + header(depth=16) + GOOD + END,
    "its colours are 9 with 8 bits": SIGNATURE + header(colour=9) + GOOD + END,
    "it is interlaced": SIGNATURE + header(interlaced=1) + GOOD + END,
    "chunk at byte 33 has a wrong check sum": SIGNATURE + header() + GOOD[:-1] + b"x" + END,
    "and a last chunk 'IEND'": SIGNATURE + header() + GOOD,
    "colours are greyscale with 3 bits, expected": SIGNATURE + header(depth=3) + GOOD + END,
    "colours are palette with 0 bits, expected": SIGNATURE + header(depth=0, colour=3) + GOOD + END,
    "its size is 4294967295 x 5, expected": SIGNATURE + header(H=2**32 - 1) + GOOD + END,
    "it ends at byte": SIGNATURE + header() + GOOD[:-9],
    "more bytes of pixels than 36": SIGNATURE + header(H=6) + GOOD + END,
    "fewer bytes of pixels than 48, expected 8 rows of 1 [+] 5":
        SIGNATURE + header(H=8) + GOOD + END,
    "cannot be unpacked": SIGNATURE + header() + chunk(b"IDAT", b"not packed") + END,
    "fewer bytes": SIGNATURE + header() + END,
    "row 0 has filter 5": SIGNATURE + header()
        + chunk(b"IDAT", zlib.compress(bytes([5, 0, 0, 0, 0, 0] * 7))) + END,
}  # fmt: skip


@pytest.mark.parametrize("problem", BAD)
def test_broken(tmp_path, problem):
    path = tmp_path / "a.png"
    path.write_bytes(BAD[problem])
    if problem == "begins with a chunk ''":
        problem = "ends at byte 12"
    with pytest.raises(ValueError, match=f"a.png is no image of this kind: .*{problem}"):
        images.indices(path)


def test_the_good_one_is_good(tmp_path):
    (tmp_path / "a.png").write_bytes(SIGNATURE + header() + GOOD + END)
    assert np.array_equal(images.indices(tmp_path / "a.png"), PIXELS)


def test_a_small_file_does_not_become_a_large_array(tmp_path):
    """What unpacks to more than its pixels is not unpacked further."""
    path = tmp_path / "a.png"
    body = zlib.compress(bytes(10**7), 9)
    path.write_bytes(SIGNATURE + header() + chunk(b"IDAT", body) + END)
    with pytest.raises(ValueError, match="more bytes of pixels than 42"):
        images.indices(path)


def test_sizes_of_other_files(tmp_path):
    path = tmp_path / "a.jpg"
    cases = {b"GIF89a": "signature of PNG or JPEG", b"\xff\xd8\xff\xd9": "no header of a frame",
             b"\xff\xd8" + b"\0" * 20: "no header of a frame", b"": "is empty"}  # fmt: skip
    for data, problem in cases.items():
        path.write_bytes(data)
        with pytest.raises(ValueError, match=problem):
            images.size(path)
    for missing in (tmp_path / "b.jpg", tmp_path):
        with pytest.raises(FileNotFoundError, match="expected an image"):
            images.size(missing)
