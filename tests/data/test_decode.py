from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from sartor.data.decode import Unreadable, decode, formats, probe, suffixes

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (9, 9, 3), dtype=np.uint8)


def encoded(image: Image.Image, form: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def smooth(height: int, width: int) -> Image.Image:
    """A colour picture without sharp edges: what a photo is to a resizer."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / width * 9 + c) * np.cos(y / height * 7 - c) for c in range(3)]
    return Image.fromarray(((np.stack(waves, -1) + 1) * 127.5).astype(np.uint8))


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM", "TGA"])
def test_lossless_forms_give_back_the_pixels(form):
    assert (decode(encoded(Image.fromarray(COLOUR), form), 3, 9) == COLOUR.transpose(2, 0, 1)).all()


def test_path_and_bytes_agree(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(COLOUR).save(path)
    assert (decode(path, 3, 5) == decode(path.read_bytes(), 3, 5)).all()


def test_grey_and_colour_channels():
    grey = COLOUR[..., 0]
    data = encoded(Image.fromarray(grey))
    assert (decode(data, 1, 9) == grey[None]).all()
    assert (decode(data, 3, 9) == np.stack([grey] * 3)).all()
    luma = COLOUR @ np.array([0.299, 0.587, 0.114])  # ITU-R 601-2
    assert np.abs(decode(encoded(Image.fromarray(COLOUR)), 1, 9)[0] - luma).max() <= 1


def test_sixteen_bits_scale_by_their_range():
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    assert (decode(encoded(Image.fromarray(levels * 257)), 1, 16)[0] == levels).all()
    values = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    for form in ("PNG", "TIFF"):
        assert np.abs(decode(encoded(Image.fromarray(values), form), 1, 64)[0] - values / 257).max() <= 0.5


def test_floats_and_wide_integers():
    unit = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    assert (decode(encoded(Image.fromarray(unit), "TIFF"), 1, 16)[0] == np.rint(unit * 255)).all()
    wide = (np.arange(256, dtype=np.int64) * ((2**31 - 1) // 255)).astype(np.int32).reshape(16, 16)
    assert (decode(encoded(Image.fromarray(wide), "TIFF"), 1, 16)[0] == np.arange(256).reshape(16, 16)).all()
    unit[3, 3] = np.nan
    with pytest.raises(Unreadable, match="NaN"):
        decode(encoded(Image.fromarray(unit), "TIFF"), 1, 16)


def test_transparency_lies_over_white():
    pixels = RNG.integers(0, 256, (9, 9, 4), dtype=np.uint8)
    alpha = pixels[..., 3:] / 255
    over_white = pixels[..., :3] * alpha + 255 * (1 - alpha)
    assert np.abs(decode(encoded(Image.fromarray(pixels)), 3, 9) - over_white.transpose(2, 0, 1)).max() <= 1
    grey_alpha = Image.fromarray(pixels[..., [0, 3]], "LA")
    over_white = pixels[..., 0] * alpha[..., 0] + 255 * (1 - alpha[..., 0])
    assert np.abs(decode(encoded(grey_alpha), 1, 9)[0] - over_white).max() <= 1


def test_palettes_expand_and_their_transparent_entry_is_white():
    few = Image.fromarray(COLOUR // 128 * 255).convert("P", palette=Image.Palette.ADAPTIVE, colors=8)
    assert (decode(encoded(few), 3, 9) == np.asarray(few.convert("RGB")).transpose(2, 0, 1)).all()
    entry = np.asarray(few)[0, 0]
    shown = decode(encoded(few, transparency=int(entry)), 3, 9)
    expected = np.where((np.asarray(few) == entry)[..., None], 255, np.asarray(few.convert("RGB")))
    assert (shown == expected.transpose(2, 0, 1)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_exif_orientation_is_undone(orientation, form):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(smooth(40, 60), form, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert (decode(data, 3, 20) == decode(encoded(upright), 3, 20)).all()
    assert (decode(data, 3, 20) == decode(encoded(smooth(40, 60), form), 3, 20)).all() == (orientation == 1)


def test_damaged_exif_leaves_the_pixels():
    data = encoded(smooth(30, 30), "JPEG")
    damaged = data[:2] + b"\xff\xe1" + struct.pack(">H", 20) + b"Exif\0\0" + b"\xff" * 12 + data[2:]
    assert (decode(damaged, 3, 30) == decode(data, 3, 30)).all()


@pytest.mark.parametrize("size", [(40, 80), (80, 40), (60, 60)])
def test_shorter_side_is_resized_and_the_centre_cropped(size):
    image, side = smooth(size[1], size[0]), 20
    scale = side / min(size)
    whole = image.resize((round(size[0] * scale), round(size[1] * scale)), Image.Resampling.BILINEAR)
    expected = ImageOps.fit(whole, (side, side), centering=(0.5, 0.5)).convert("RGB")
    got = decode(encoded(image), 3, side).transpose(1, 2, 0).astype(int)
    assert np.abs(got - np.asarray(expected)).max() <= 1


def test_large_jpegs_decode_reduced_to_about_the_same():
    image = smooth(1200, 1600)
    reduced = decode(encoded(image, "JPEG", quality=95), 3, 64).astype(int)
    full = decode(encoded(image), 3, 64).astype(int)
    assert np.abs(reduced - full).mean() < 1


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_other_colour_spaces_become_rgb(mode):
    image = smooth(16, 16).convert(mode)
    form = "TIFF"
    with Image.open(io.BytesIO(encoded(image, form))) as back:
        expected = np.asarray(back.convert("RGB")).transpose(2, 0, 1)
    assert (decode(encoded(image, form), 3, 16) == expected).all()


def test_probe_reads_size_and_greyness():
    for mode, grey in {"L": True, "1": True, "LA": True, "RGB": False, "RGBA": False}.items():
        header = probe(encoded(Image.new(mode, (7, 5))))
        assert (header.width, header.height, header.grey) == (7, 5, grey)
    assert probe(encoded(Image.new("I;16", (7, 5)))).grey
    assert probe(encoded(Image.new("L", (7, 5)).convert("P"))).grey
    assert not probe(encoded(smooth(8, 8).convert("P", palette=Image.Palette.ADAPTIVE))).grey


def huge_png() -> bytes:
    """A PNG whose header promises 10^10 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not an image"),
        (b"hello", "not an image"),
        (encoded(smooth(64, 64), "JPEG")[:-600], "truncated"),
        (encoded(Image.fromarray(COLOUR))[:150], "truncated"),
        (huge_png(), "decompression bomb"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not an image"),
    ],
)
def test_unreadable_images_say_why(data, reason, tmp_path):
    with pytest.raises(Unreadable, match=reason):
        decode(data, 3, 8)
    path = tmp_path / "broken.png"
    path.write_bytes(data)
    with pytest.raises(Unreadable, match=r"broken\.png: ") as error:
        decode(path, 3, 8)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_unreadable(tmp_path):
    with pytest.raises(Unreadable, match="no such file"):
        decode(tmp_path / "gone.png", 3, 8)


@pytest.mark.filterwarnings("ignore:::PIL")  # Pillow warns of much of it, too
@given(st.data())
def test_no_damage_raises_anything_but_unreadable(data):
    whole = bytearray(
        encoded(smooth(12, 12), data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])))
    )
    for position in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=8)):
        whole[position] = data.draw(st.integers(0, 255))
    try:
        pixels = decode(bytes(whole[: data.draw(st.integers(0, len(whole)))]), 3, 6)
    except Unreadable:
        return
    assert pixels.shape == (3, 6, 6)
    assert pixels.dtype == np.uint8


def test_nothing_that_runs_programs_is_read():
    assert "EPS" not in formats()
    assert ".eps" not in suffixes()
    assert {".jpg", ".jpeg", ".png", ".webp", ".tif"} <= suffixes()


def test_decoding_does_not_import_torch():
    code = "import sys, sartor.data.worker; sys.exit('torch' in sys.modules)"
    path = os.pathsep.join(sys.path)
    assert (
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, check=False).returncode
        == 0
    )
