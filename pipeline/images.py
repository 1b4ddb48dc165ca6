"""One image: from a file that is looked at before it is decoded, to the pixels of a canvas."""

import os
import stat
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

PIXEL_LIMIT = 2**30 // 12
"""Of an image: a quarter of a gibibyte as RGB, where Pillow begins to warn; in its memory 358 MB, in each thread."""
BYTES_LIMIT = 4 * PIXEL_LIMIT
"""Of a file: so many pixels uncompressed, and room for what else is in it, which is read whole."""
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "PPM", "TIFF")
"""What is decoded, whatever a file is named. Among Pillow's others are some that start a program (EPS)."""
GREY_MODES = ("1", "L", "LA", "La")
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what makes the image upright."""


class MisfitError(ValueError):
    """An image is whole, and not of the kind that the [data] section asks for."""


def load_image(path: str) -> Image.Image:
    """The image in a file: upright, and of 16 bits of grey the high byte.

    Of an animation or of several pages it is the first, and of transparency nothing is left, as with torchvision's
    loader. A JPEG carries no checksum: where damage still decodes, it is not found.

    Raises ValueError where the file or its image is over the limits or of no known kind, and whatever Pillow raises
    where it is damaged.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("no regular file")  # a pipe would be waited for, forever
    if not status.st_size:
        raise ValueError("an empty file")
    if status.st_size > BYTES_LIMIT:
        raise ValueError(f"a file of {status.st_size:,} bytes; at most {BYTES_LIMIT:,} are read")
    with open(path, "rb") as file:
        image = _opened(file)
        if image.format == "PNG" and image.tile:
            image.verify()  # the checksums of the pixels, which Pillow leaves out when it decodes
            image = _opened(file)
        image.load()
        image.info.pop("transparency", None)
        return _upright(_eight_bits(image))


def _opened(file: BinaryIO) -> ImageFile.ImageFile:
    """The image as its header describes it, nothing decoded."""
    try:
        image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError(f"not recognised as {', '.join(FORMATS[:-1])} or {FORMATS[-1]}") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"{error} At most {PIXEL_LIMIT:,} are decoded") from error
    width, height = image.size
    if width * height > PIXEL_LIMIT:
        raise ValueError(f"{width}x{height} pixels are {width * height:,}; at most {PIXEL_LIMIT:,} are decoded")
    return image


def _eight_bits(image: Image.Image) -> Image.Image:
    """16 bits of grey by their high byte, as Pillow does it with 16 bits of colour; other images as they are."""
    if not (image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")):
        return image
    tags = getattr(image, "tag_v2", {258: (16,), 262: 1})
    if (tags.get(258), tags.get(262)) != ((16,), 1):  # bits per sample, and black as zero: Pillow scales neither
        raise ValueError("grey of more than 8 bits that is not 16, or with white as zero, is not supported")
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF says; as it lies where that cannot be read, which says nothing of the pixels."""
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # of a parser of whatever a camera wrote
        return image
    return image if turn is None else image.transpose(turn)


def to_canvas(image: Image.Image, side: int, channels: int, *, resize: bool) -> NDArray[np.uint8]:
    """An image as (channels, side, side) uint8: shorter side resized to `side`, then the centre.

    Raises ValueError where it has more than 8 bits, and MisfitError where it has another size and is not to be resized,
    or is of colour and to have one channel.
    """
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"{image.mode!r} images, of more than 8 bits, are not supported")
    if channels == 1 and image.mode not in GREY_MODES:
        raise MisfitError(f"a colour image ({image.mode}) among grey ones; set data.channels = 3")
    mode = "RGB" if channels == 3 else "L"
    if image.mode != mode:  # convert would copy
        image = image.convert(mode)
    if resize and image.size != (side, side):
        shorter = min(image.size)
        left, top = ((length - shorter) / 2 for length in image.size)
        centre = (left, top, left + shorter, top + shorter)  # cut first: the longer side may be very long
        image = image.resize((side, side), Image.Resampling.BILINEAR, centre)
    if image.size != (side, side):
        width, height = image.size
        raise MisfitError(f"{width}x{height} pixels where {side}x{side} are expected; set data.canvas to resize")
    pixels = np.asarray(image, np.uint8)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
