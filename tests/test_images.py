"""One image: what becomes of every kind of image file, damaged and hostile ones included."""

import io
import os
import struct
import subprocess
import sys
import tempfile
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, PngImagePlugin

from pipeline.images import BYTES_LIMIT, PIXEL_LIMIT, MisfitError, load_image, to_canvas
from tests.images import encoded, image_file, pixels

PHOTO = Image.fromarray(pixels(48, 64, 3))
MAY_WARN = pytest.mark.filterwarnings("ignore::UserWarning")
"""Of metadata, as ingest ignores it."""


def loaded(folder: Path, data: bytes, name: str = "x.jpg") -> Image.Image:
    """The image in a file with these bytes."""
    (folder / name).write_bytes(data)
    return load_image(str(folder / name))


def colours(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image.convert("RGB"))


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF"])
def test_pixels_of_a_whole_file_are_those_that_were_saved_whatever_its_name(tmp_path: Path, kind: str) -> None:
    np.testing.assert_array_equal(colours(loaded(tmp_path, encoded(PHOTO, kind))), np.asarray(PHOTO))


@MAY_WARN
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "PPM", "GIF"])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.995])
def test_truncated_file_is_bad(tmp_path: Path, kind: str, share: float) -> None:
    data = encoded(PHOTO, kind)
    with pytest.raises((OSError, ValueError)):
        loaded(tmp_path, data[: int(share * len(data))])


@MAY_WARN
def test_flipped_byte_anywhere_in_a_png_is_found_by_its_checksums(tmp_path: Path) -> None:
    data = encoded(Image.fromarray(pixels(12, 12, 3)), "PNG")
    for place in range(len(data) - 12):  # up to the chunk that ends it
        flipped = data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :]
        with pytest.raises(Exception):  # noqa: B017, PT011
            loaded(tmp_path, flipped)


@MAY_WARN
def test_flipped_bytes_in_a_jpeg_are_refused_or_decode_to_the_same_pixels_each_time(tmp_path: Path) -> None:
    """It has no checksum, and libjpeg's warnings do not reach Pillow's callers."""
    data = encoded(PHOTO, "JPEG")
    refused = decoded = 0
    for place in range(2, len(data), len(data) // 150):
        flipped = data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :]
        try:
            first = loaded(tmp_path, flipped)
        except (OSError, ValueError):
            refused += 1
            continue
        decoded += 1
        np.testing.assert_array_equal(colours(loaded(tmp_path, flipped)), colours(first))
    assert refused > 5
    assert decoded > 5


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"no image", "not recognised as JPEG, PNG, WEBP, GIF, BMP, PPM or TIFF"),
        (b"%PDF-1.4", "not recognised as"),
        (encoded(PHOTO, "EPS"), "not recognised as"),  # Pillow would start Ghostscript
        (b"", "an empty file"),
    ],
)
@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.eps"])
def test_file_in_disguise_is_bad(tmp_path: Path, data: bytes, reason: str, name: str) -> None:
    with pytest.raises(ValueError, match=reason):
        loaded(tmp_path, data, name)


def test_png_of_no_pixels_is_bad(tmp_path: Path) -> None:
    data = encoded(PHOTO, "PNG")
    with pytest.raises(OSError, match="cannot load this image"):
        loaded(tmp_path, data[:33] + png_chunk(b"IEND", b""))


def test_folder_pipe_device_and_dangling_link_are_bad_and_nothing_to_wait_for(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    for name in ("folder", "pipe", "device"):
        with pytest.raises(ValueError, match="no regular file"):
            load_image(str(tmp_path / f"{name}.jpg"))
    (tmp_path / "dangling.jpg").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError):
        load_image(str(tmp_path / "dangling.jpg"))


def test_link_to_an_image_is_that_image(tmp_path: Path) -> None:
    image_file(tmp_path / "x.png", pixels(4, 4))
    (tmp_path / "link.png").symlink_to("x.png")
    np.testing.assert_array_equal(np.asarray(load_image(str(tmp_path / "link.png"))), pixels(4, 4))


@pytest.fixture
def anybody() -> Iterator[Path]:
    """A folder that everybody may read, seen as somebody without privileges."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def test_file_without_permission_is_bad(anybody: Path) -> None:
    file = image_file(anybody / "x.png", pixels(4, 4))
    assert load_image(str(file)).size == (4, 4)
    file.chmod(0)
    is_root = os.geteuid() == 0
    try:
        if is_root:
            os.seteuid(65534)
        with pytest.raises(PermissionError):
            load_image(str(file))
    finally:
        if is_root:
            os.seteuid(0)


@MAY_WARN
@pytest.mark.parametrize("side", [9460, 17300])  # a little over our limit; 299 million pixels, which Pillow refuses
def test_small_file_of_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path, side: int) -> None:
    Image.new("1", (side, side)).save(tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size < 50_000
    program = (
        "import re, sys, warnings; from pipeline.images import load_image\n"
        "warnings.simplefilter('ignore')\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s*(\\d+) kB', open('/proc/self/status').read())[1])\n"
        "before = peak()\n"
        "try: load_image(sys.argv[1])\n"
        "except ValueError as error: print(error, peak() - before < 20_000)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "x.png")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"t most {PIXEL_LIMIT:,} are decoded True" in said
    assert str(side**2) in said.replace(",", "")


def test_as_many_pixels_as_are_allowed_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.images.PIXEL_LIMIT", 64 * 48)
    data = encoded(PHOTO, "PNG")
    assert loaded(tmp_path, data).size == (64, 48)
    monkeypatch.setattr("pipeline.images.PIXEL_LIMIT", 64 * 48 - 1)
    with pytest.raises(ValueError, match="64x48 pixels are 3,072; at most 3,071 are decoded"):
        loaded(tmp_path, data)


def test_limits_of_pillow_are_left_as_the_process_set_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    Image.new("1", (17300, 17300)).save(tmp_path / "x.png")
    with pytest.raises(ValueError, match=f"17300x17300 pixels are 299,290,000; at most {PIXEL_LIMIT:,} are decoded"):
        load_image(str(tmp_path / "x.png"))
    assert Image.MAX_IMAGE_PIXELS is None


def test_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "x.png").open("wb") as file:
        file.write(encoded(PHOTO, "PNG"))
        file.truncate(BYTES_LIMIT + 1)  # sparse
    with pytest.raises(ValueError, match=f"a file of {BYTES_LIMIT + 1:,} bytes; at most {BYTES_LIMIT:,} are read"):
        load_image(str(tmp_path / "x.png"))


@pytest.mark.parametrize("kind", ["zTXt", "iTXt"])
def test_compressed_text_that_unpacks_to_megabytes_is_bad(tmp_path: Path, kind: str) -> None:
    info, text = PngImagePlugin.PngInfo(), "0" * 20_000_000
    info.add_text("a", text, zip=True) if kind == "zTXt" else info.add_itxt("a", text, zip=True)
    data = encoded(PHOTO, "PNG", pnginfo=info)
    assert len(data) < 50_000
    tracemalloc.start()
    with pytest.raises(ValueError, match="Decompressed data too large"):
        loaded(tmp_path, data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_huge_exif_is_read_past(tmp_path: Path) -> None:
    exif = b"Exif\0\0" + b"\xff" * 65_000
    data = encoded(PHOTO, "JPEG", exif=exif)
    segment = data.index(b"\xff\xe1")
    many = data[:segment] + 100 * (b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif) + data[segment:]
    assert len(many) > 6_000_000
    np.testing.assert_array_equal(colours(loaded(tmp_path, many)), colours(loaded(tmp_path, encoded(PHOTO, "JPEG"))))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_grey_of_16_bits_becomes_its_high_byte(tmp_path: Path, kind: str) -> None:
    grey = (np.arange(48 * 64).reshape(48, 64) * 21).astype(np.uint16)
    image = loaded(tmp_path, encoded(Image.fromarray(grey), kind))
    assert image.mode == "L"
    np.testing.assert_array_equal(np.asarray(image), grey >> 8)


def test_big_endian_and_compressed_grey_of_16_bits_becomes_its_high_byte(tmp_path: Path) -> None:
    grey = (np.arange(48 * 64).reshape(48, 64) * 21).astype(np.uint16)
    swapped = Image.fromarray(grey.astype(">u2"))
    packed = encoded(Image.fromarray(grey), "TIFF", compression="tiff_lzw")
    for data in (encoded(swapped, "TIFF"), packed):
        np.testing.assert_array_equal(np.asarray(loaded(tmp_path, data)), grey >> 8)


def test_grey_of_16_bits_whose_zero_is_white_is_bad(tmp_path: Path) -> None:
    grey = Image.fromarray(np.zeros((4, 4), np.uint16))
    with pytest.raises(ValueError, match="or with white as zero, is not supported"):
        loaded(tmp_path, encoded(grey, "TIFF", tiffinfo={262: 0}))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_grey_of_32_bits_is_bad_since_its_range_is_unknown(tmp_path: Path, dtype: Any) -> None:
    image = loaded(tmp_path, encoded(Image.fromarray(np.zeros((4, 4), dtype)), "TIFF"))
    with pytest.raises(ValueError, match="of more than 8 bits, are not supported"):
        to_canvas(image, 4, 1, resize=False)


@pytest.mark.parametrize(
    ("kind", "mode", "colour", "expected"),
    [
        ("PNG", "RGBA", (10, 20, 30, 0), (10, 20, 30)),
        ("PNG", "LA", (9, 100), (9, 9, 9)),
        ("PNG", "1", 1, (255, 255, 255)),
        ("TIFF", "1", 0, (0, 0, 0)),
        ("JPEG", "CMYK", (255, 0, 0, 0), (0, 255, 255)),
        ("TIFF", "CMYK", (0, 255, 0, 0), (255, 0, 255)),
        ("JPEG", "L", 77, (77, 77, 77)),
        ("TIFF", "YCbCr", (76, 85, 255), (254, 0, 0)),
        ("WEBP", "RGBA", (0, 0, 255, 255), (0, 0, 255)),
    ],
)
def test_colours_of_a_file_are_those_of_its_mode(
    tmp_path: Path, kind: str, mode: str, colour: Any, expected: tuple[int, ...]
) -> None:
    image = loaded(tmp_path, encoded(Image.new(mode, (8, 8), colour), kind))
    x = to_canvas(image, 8, 3, resize=False)
    assert np.abs(x[:, 0, 0].astype(int) - expected).max() <= 3, x[:, 0, 0]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("PNG", {"transparency": 1}),
        ("PNG", {"transparency": bytes([0, 100, 200])}),
        ("GIF", {}),
        ("GIF", {"transparency": 1}),
    ],
)
def test_palette_gives_its_colours_whatever_is_transparent(tmp_path: Path, kind: str, options: Any) -> None:
    image = PHOTO.quantize(16)
    x = to_canvas(loaded(tmp_path, encoded(image, kind, **options)), 48, 3, resize=True)
    np.testing.assert_array_equal(x, to_canvas(image, 48, 3, resize=True))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_first_frame_or_page_of_several_is_the_image(tmp_path: Path, kind: str) -> None:
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ((200, 0, 0), (0, 200, 0)))
    data = encoded(first, kind, save_all=True, append_images=[second])
    with Image.open(io.BytesIO(data)) as image:
        assert getattr(image, "n_frames", 1) == 2
    assert np.abs(colours(loaded(tmp_path, data))[0, 0].astype(int) - [200, 0, 0]).max() <= 3


TURNED = np.kron(np.array([[0, 60, 120], [180, 240, 255]], np.uint8), np.ones((16, 16), np.uint8))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, TURNED),
        (2, TURNED[:, ::-1]),
        (3, TURNED[::-1, ::-1]),
        (4, TURNED[::-1]),
        (5, TURNED.T),
        (6, np.rot90(TURNED, -1)),
        (7, np.rot90(TURNED, 2).T),
        (8, np.rot90(TURNED)),
        (9, TURNED),
    ],
)
def test_image_is_turned_upright_as_its_exif_says(
    tmp_path: Path, kind: str, orientation: int, upright: NDArray[np.uint8]
) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image = loaded(tmp_path, encoded(Image.fromarray(TURNED), kind, exif=exif))
    assert np.abs(colours(image)[..., 0].astype(int) - upright).max() <= 12


@MAY_WARN
@pytest.mark.parametrize("exif", [b"Exif\0\0no exif at all", b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01"])
def test_exif_that_cannot_be_read_leaves_the_image_as_it_lies(tmp_path: Path, exif: bytes) -> None:
    whole = loaded(tmp_path, encoded(PHOTO, "JPEG"))
    np.testing.assert_array_equal(colours(loaded(tmp_path, encoded(PHOTO, "JPEG", exif=exif))), colours(whole))


def test_nothing_of_the_process_is_changed_and_no_file_stays_open(tmp_path: Path) -> None:
    image_file(tmp_path / "x.png", pixels(4, 4))
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, len(os.listdir("/proc/self/fd")))
    load_image(str(tmp_path / "x.png"))
    (tmp_path / "y.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="not recognised"):
        load_image(str(tmp_path / "y.png"))
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, len(os.listdir("/proc/self/fd"))) == before


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGB", (1, 2, 3), [1, 2, 3]),
        ("RGBA", (1, 2, 3, 0), [1, 2, 3]),
        ("L", 9, [9, 9, 9]),
        ("LA", (9, 0), [9, 9, 9]),
        ("1", 1, [255, 255, 255]),
        ("CMYK", (255, 0, 0, 0), [0, 255, 255]),
    ],
)
def test_every_mode_becomes_three_channels(mode: str, colour: Any, expected: list[int]) -> None:
    x = to_canvas(Image.new(mode, (4, 4), colour), 4, 3, resize=False)
    assert x.shape == (3, 4, 4)
    assert x.flags.c_contiguous
    assert x[:, 0, 0].tolist() == expected


def test_palette_gives_its_colours() -> None:
    image = Image.fromarray(np.full((4, 4, 3), (10, 200, 30), np.uint8)).quantize()
    assert image.mode == "P"
    assert to_canvas(image, 4, 3, resize=False)[:, 0, 0].tolist() == [10, 200, 30]


@pytest.mark.parametrize(("mode", "colour", "expected"), [("L", 9, 9), ("LA", (9, 0), 9), ("1", 1, 255)])
def test_grey_modes_become_one_channel(mode: str, colour: Any, expected: int) -> None:
    x = to_canvas(Image.new(mode, (4, 4), colour), 4, 1, resize=False)
    assert x.shape == (1, 4, 4)
    assert (x == expected).all()


@pytest.mark.parametrize("mode", ["I", "F", "I;16"])
def test_images_of_more_than_eight_bits_are_refused(mode: str) -> None:
    with pytest.raises(ValueError, match=f"'{mode}' images, of more than 8 bits, are not supported"):
        to_canvas(Image.new(mode, (4, 4)), 4, 1, resize=False)


@pytest.mark.parametrize(
    ("size", "resized"), [((12, 8), (8, 8)), ((8, 12), (8, 8)), ((40, 9), (8, 8)), ((1, 30), (8, 8))]
)
def test_any_size_is_resized_to_the_canvas(size: tuple[int, int], resized: tuple[int, int]) -> None:
    assert to_canvas(Image.new("L", size), 8, 1, resize=True).shape[1:] == resized


def test_size_that_is_not_the_canvas_is_refused_without_resizing() -> None:
    with pytest.raises(MisfitError, match=r"12x8 pixels where 8x8 are expected; set data\.canvas to resize"):
        to_canvas(Image.new("L", (12, 8)), 8, 1, resize=False)
