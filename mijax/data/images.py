"""Encoded images to one array; whatever cannot be decoded is refused by name."""

import io
import struct
import zlib
from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageFile, ImageOps

_FORMATS = ("PNG", "JPEG", "PPM")
_GRAY_MODES = ("1", "L", "LA")
_COLOR_MODES = ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
_CORRUPT = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def check_size(size: int | None) -> None:
    """Refuses a side length that no image can have."""
    if size is not None and size < 1:
        raise ValueError(f"size must be at least 1 pixel, not {size}")


def decode_all(
    encoded: Iterable[tuple[str, bytes]], size: int | None = None
) -> np.ndarray:
    """Decodes images and stacks them.

    Gray images keep one channel and color ones three; transparency is dropped and
    the orientation that a camera noted is applied. With `size`, each image is
    center-cropped to a square and resized (bilinear, antialiased), and gray images
    among color ones are copied into three channels.

    Args:
      encoded: pairs of a file name, for messages, and the file's bytes.
      size: side of the result in pixels; None keeps the images as they are.

    Returns:
      `[N, H, W, C]` float32 in [0, 1].

    Raises:
      ValueError: an image is corrupt or not of 8 bits a channel, or without `size`
        it differs from the first in size or channels; the message names the file.
    """
    check_size(size)
    images: list[np.ndarray] = []
    # TFDS lets PIL fill truncated images with gray for the rest of the process.
    truncated_allowed = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        for file, data in encoded:
            image = _decode(file, data, size)
            if size is None and images and image.shape != images[0].shape:
                raise ValueError(
                    f"{file} is {_describe(image)} where the images before it are "
                    f"{_describe(images[0])}: make all alike, or pass size= to "
                    "crop and resize them"
                )
            images.append(image)
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = truncated_allowed
    channels = max(image.shape[-1] for image in images)
    shape = (*images[0].shape[:2], channels)
    stacked = np.stack([np.broadcast_to(image, shape) for image in images])
    stacked = stacked.astype(np.float32)
    stacked /= np.float32(255)
    return stacked


def _decode(file: str, data: bytes, size: int | None) -> np.ndarray:
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
    except _CORRUPT as error:
        raise ValueError(
            f"{file} cannot be decoded ({error}): replace or remove it"
        ) from error
    if image.mode in _GRAY_MODES:
        image = image if image.mode == "L" else image.convert("L")
    elif image.mode in _COLOR_MODES:
        image = image.convert("RGB")
    else:
        raise ValueError(
            f"{file} has pixels of mode {image.mode}: save it with 8 bits a channel"
        )
    if size is not None:
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array


def _describe(image: np.ndarray) -> str:
    height, width, channels = image.shape
    return f"{width}x{height} with {channels} channel{'s' * (channels > 1)}"
