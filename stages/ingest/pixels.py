"""Turn the stored pixels of one DICOM image into Hounsfield units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from jaxtyping import Bool, Shaped
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pixel_array

from pipeline.core.errors import InputError
from pipeline.core.units import PADDING_HU
from stages.ingest import frames
from stages.ingest.headers import DAMAGED, PlainPixels, SliceHeader

_BELOW_TISSUE_HU = -900.0
_SMALLEST, _LARGEST = -(2**30), 2**15 - 1
"""What is below the scale is clipped, so only the arithmetic in 32 bits must hold it."""
_CORNERS = ([0, 0, -1, -1], [0, -1, 0, -1])


@dataclass(frozen=True)
class DecodedSlice:
    """Hold one slice in HU, and how many pixels were padding or below the scale.

    Values are int16 where slope and intercept are whole, as almost all scanners write them, else
    float32.
    """

    values: Shaped[np.ndarray, "y x"]
    padded: int
    clipped: int


def decode(header: SliceHeader, dataset: Dataset) -> DecodedSlice:
    """Return one slice in HU: slope times stored value plus intercept (PS3.3, C.11.1.1.2).

    Pixels with the padding value lie outside the reconstruction circle and become -1024 HU, as
    does everything below: air is -1000 HU, and what lies below the scale is no measurement.

    Raises
    ------
    InputError
        If the pixels are missing, cut short, or do not decode to the size in the header.
    """
    stored = _stored_pixels(header, dataset)
    own = dataset if header.frame is None else frames.flat_frame(dataset, header.frame)
    return _in_hu(header, own, stored)


def decode_plain(header: SliceHeader, plain: PlainPixels) -> DecodedSlice:
    """Return one slice in HU whose pixels are plain numbers in the file; see `decode`.

    Raises
    ------
    InputError
        If the file is cut short, or its rescaling is unusable.
    """
    with header.entry.open() as file:
        file.seek(plain.offset)
        data = file.read(plain.size)
    if len(data) < plain.size:
        _refuse_cut(header.entry.name, len(data), plain.size)
    signed = int(plain.kept.get("PixelRepresentation", 0) or 0) == 1
    stored = np.frombuffer(data, dtype="<i2" if signed else "<u2")
    stored = stored.reshape(header.rows, header.columns)
    return _in_hu(header, plain.kept, _without_overlay_bits(stored, plain.kept))


def _in_hu(header: SliceHeader, own: Dataset, stored: Shaped[np.ndarray, "y x"]) -> DecodedSlice:
    padding = _padding_mask(own, stored)
    values = _rescaled(header.entry.name, stored, *rescaling(own))
    padded = 0
    if padding is not None:
        values[padding] = PADDING_HU
        padded = int(np.count_nonzero(padding))
    clipped = 0
    if values.min() < PADDING_HU:
        below = values < PADDING_HU
        values[below] = PADDING_HU
        clipped = int(np.count_nonzero(below))
    small = values.astype(np.int16) if values.dtype.kind == "i" else values.astype(np.float32)
    return DecodedSlice(small, padded, clipped)


def _rescaled(
    name: str, stored: Shaped[np.ndarray, "y x"], slope: float, intercept: float
) -> Shaped[np.ndarray, "y x"]:
    """Return slope times value plus intercept: int32 if every value is whole and fits int16."""
    ends = (int(stored.min()) * slope + intercept, int(stored.max()) * slope + intercept)
    whole = slope == round(slope) and intercept == round(intercept) and abs(slope) <= _LARGEST
    if whole and min(ends) >= _SMALLEST and max(ends) <= _LARGEST:
        return stored.astype(np.int32) * np.int32(slope) + np.int32(intercept)
    values = stored.astype(np.float64) * slope + intercept
    if not np.isfinite(values).all() or np.abs(values).max() > np.finfo(np.float32).max:
        raise InputError(
            f"{name}: rescales to values that are no numbers (slope {slope:g}, intercept "
            f"{intercept:g}); export the series again.",
            file=name,
        )
    return values


def rescaling(dataset: Dataset) -> tuple[float, float]:
    """Return rescale slope and intercept; without them stored values are taken as HU."""
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    try:
        pair = (
            1.0 if slope is None else float(slope),
            0.0 if intercept is None else float(intercept),
        )
    except DAMAGED as error:
        raise InputError(
            "A slice has an unreadable rescale slope or intercept; export the series again."
        ) from error
    if not np.isfinite(pair).all() or pair[0] == 0:
        raise InputError(
            f"A slice has rescale slope {pair[0]:g} and intercept {pair[1]:g}; needed are finite "
            "numbers and a slope other than 0. Export the series again."
        )
    return pair


def _stored_pixels(header: SliceHeader, dataset: Dataset) -> Shaped[np.ndarray, "y x"]:
    name, shape = header.entry.name, (header.rows, header.columns)
    data = dataset.get("PixelData")
    if not data:
        raise InputError(f"{name}: holds no pixels; export the series again.", file=name)
    compressed = dataset.file_meta.TransferSyntaxUID.is_compressed
    count = 1 if header.frame is None else frames.count_described(dataset)
    needed = count * header.rows * header.columns * int(dataset.BitsAllocated) // 8
    if not compressed and len(data) < needed:
        _refuse_cut(name, len(data), needed)
    try:
        with np.errstate(all="ignore"):
            array = _decoded(dataset, header.frame)
    except DAMAGED as error:
        raise InputError(
            f"{name}: its pixels cannot be decoded ({type(error).__name__}); the file is damaged "
            "or its compression is not supported. Export the series uncompressed.",
            file=name,
        ) from error
    if array.shape != shape or array.dtype.kind not in "iu":
        raise InputError(
            f"{name}: decodes to {array.shape} pixels (needed: {shape}); export it again.",
            file=name,
        )
    return _without_overlay_bits(array, dataset)


def _refuse_cut(name: str, found: int, needed: int) -> NoReturn:
    raise InputError(
        f"{name}: is cut short: {found} bytes of pixels (needed: {needed}). Copy or export the "
        "series again.",
        found=found,
        needed=needed,
    )


def _decoded(dataset: Dataset, frame: int | None) -> Shaped[np.ndarray, "y x"]:
    if frame is None:
        return np.asarray(dataset.pixel_array)
    # Without a decoded copy of all frames: that is what the volume will be.
    return np.asarray(pixel_array(dataset, index=frame))


def _without_overlay_bits(
    array: Shaped[np.ndarray, "y x"], dataset: Dataset
) -> Shaped[np.ndarray, "y x"]:
    """Drop what old scanners hide above the stored bits, and extend the sign."""
    allocated, stored = int(dataset.BitsAllocated), int(dataset.get("BitsStored", 0) or 0)
    if not 0 < stored < allocated or int(dataset.get("HighBit", stored - 1)) != stored - 1:
        return array
    spare = array.dtype.type(array.dtype.itemsize * 8 - stored)
    masked: Shaped[np.ndarray, "y x"] = (array << spare) >> spare
    return masked


def _padding_mask(
    dataset: Dataset, stored: Shaped[np.ndarray, "y x"]
) -> Bool[np.ndarray, "y x"] | None:
    try:
        first = int(dataset.get("PixelPaddingValue"))
        last = int(dataset.get("PixelPaddingRangeLimit", first))
    except DAMAGED:
        return None
    # Explicit VR files often carry a negative padding value in an unsigned element (US): read it
    # in the signedness of the pixels (PS3.3, C.7.5.1.1.2).
    bits = 8 * stored.dtype.itemsize
    signed = np.iinfo(stored.dtype).min < 0
    first, last = (_wrapped(v, bits, signed=signed) for v in (first, last))
    mask: Bool[np.ndarray, "y x"] = (stored >= min(first, last)) & (stored <= max(first, last))
    # Some writers declare 0 as padding where 0 is water: believe it only if a corner has it.
    slope, intercept = rescaling(dataset)
    is_air = max(first * slope, last * slope) + intercept <= _BELOW_TISSUE_HU
    return mask if is_air or mask[_CORNERS].any() else None


def _wrapped(value: int, bits: int, *, signed: bool) -> int:
    wrapped = value % (1 << bits)
    return wrapped - (1 << bits) if signed and wrapped >= 1 << (bits - 1) else wrapped
