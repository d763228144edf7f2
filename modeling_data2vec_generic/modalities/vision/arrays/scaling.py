"""The numbers that the values of images are scaled with.

The values of arrays stay as they are stored until an encoder reads them, scaled by `image_mean` and `image_std`. These
come from the flags, else from a saved image processor, else they are the mean and the standard deviation of the
training images that are looked at. They are kept with the image processor, so that fine-tuning, evaluation and
inference scale as training did.
"""

from typing import Any

import numpy as np

from ....data.arguments import DataArguments
from ....data.summary import note
from .array_format import ArrayFormat, Looked
from .channels import can_become

_OF_BYTES = 1 / 255  # the rescale_factor that is the default of transformers, for values of 8 bits
_SHOWN = 5  # channels whose numbers are named in the summary


def array_format_of(looked: Looked, args: DataArguments, processor: Any = None) -> ArrayFormat | None:
    """The format of a data set; None if its images are ordinary ones.

    It is None also if black and white levels, by flags or saved with the processor, say that grey images and RGB of
    more than 8 bits are to become images of 8 bits.
    """
    usual = looked.usual
    named = [getattr(source, f"{end}_level", None) for source in (args, processor) for end in ("black", "white")]
    is_levelled = usual is not None and usual.channels in (1, 3) and any(level is not None for level in named)
    return None if is_levelled else usual


def fit_to_images(processor: Any, is_saved: bool, looked: Looked, args: DataArguments, channels: int) -> None:
    """Sets how images are decoded and scaled: `array_format`, `image_mean`, `image_std` and `rescale_factor`.

    Args:
        processor: the image processor.
        is_saved: whether it was loaded, so that its numbers belong to the encoder.
        looked: some of the training images.
        args: the flags.
        channels: the number that the encoder reads.

    Raises:
        ValueError: the images have another number of channels, or another depth than those that the encoder was
            trained with, or a flag has another number of values.
    """
    usual = array_format_of(looked, args, processor)
    if looked.formats:
        _check(looked, usual, ArrayFormat.of(processor), channels)
    given = {name: _given(name, getattr(args, name), channels) for name in ("image_mean", "image_std")}
    flags = {name: value for name, value in given.items() if value is not None}
    numbers, by = {}, ""
    if usual is not None:
        found = ArrayFormat(channels, usual.eight_bits)
        saved = _saved(processor, found) if is_saved else None
        if saved is not None:
            numbers, by = saved, "as is saved with the image processor"
        else:
            measured = _measured(looked, found) if len(flags) < len(given) else {}
            numbers, by = measured | {"rescale_factor": 1.0}, "the mean and standard deviation of training images"
        found.keep(processor)
    for name, value in (numbers | flags).items():
        setattr(processor, name, value)
    if usual is not None:
        processor.do_rescale = processor.do_normalize = True
        by = f"{by}, {', '.join(f'--{name}' for name in flags)}" if len(flags) == 1 else "the flags" if flags else by
        note(
            "train",
            f"Images are arrays of {found}, whose values are kept: image_mean={_shown(processor.image_mean)}, "
            f"image_std={_shown(processor.image_std)} ({by}).",
        )


def _check(looked: Looked, usual: ArrayFormat | None, kept: ArrayFormat | None, channels: int) -> None:
    """Raises ValueError if most images are not what the encoder reads, or what it was trained with (`kept`)."""
    found = 3 if usual is None else usual.channels
    has = "8-bit grey or RGB" if usual is None else str(usual)
    example = looked.example(usual)
    path = (example and example["path"]) or "The first image"
    if not can_become(found, channels):
        raise ValueError(
            f"{path} has {has}, and the encoder reads num_channels={channels}. Give images with as many channels, "
            f"or another encoder, or make a new one: --model_type with --config_overrides num_channels={found}. Of an "
            "array with three axes, the channels are the first or last: the one with num_channels entries, or else "
            "the smallest of the three."
        )
    if kept is not None and (usual is None or usual.eight_bits != kept.eight_bits):
        raise ValueError(
            f"{path} has {has}, and the image processor scales {kept}, with which the encoder was trained. Give "
            "images of the same kind, or another processor with --processor_name."
        )


def _given(name: str, values: list[float] | None, channels: int) -> list[float] | None:
    if values is not None and len(values) not in (1, channels):
        raise ValueError(
            f"{name} has {len(values)} values, and images have {channels} channels: give 1 or {channels}."
        )
    return None if values is None else _for_each(values, channels)


def _for_each(values: Any, channels: int) -> list[float]:
    """A value for each channel, from one for all or one for each."""
    return np.broadcast_to(np.asarray(values, dtype=np.float64), (channels,)).tolist()


def _saved(processor: Any, found: ArrayFormat) -> dict[str, Any] | None:
    """The numbers of a saved processor; None if they are not for such images."""
    factor = processor.rescale_factor if processor.do_rescale else 1.0
    mean, std = (processor.image_mean, processor.image_std) if processor.do_normalize else (0.0, 1.0)
    is_for_bytes = ArrayFormat.of(processor) is None and np.isclose(factor, _OF_BYTES)
    if (is_for_bytes and not found.eight_bits) or any(
        np.size(part) not in (1, found.channels) for part in (mean, std)
    ):
        return None
    numbers = {"image_mean": _for_each(mean, found.channels), "image_std": _for_each(std, found.channels)}
    return {**numbers, "rescale_factor": factor}


def _measured(looked: Looked, found: ArrayFormat) -> dict[str, Any]:
    """Mean and standard deviation of each channel over images, all of which have the same weight.

    A channel that has the same value everywhere is not divided by its standard deviation, which is 0.
    """
    moments = [
        (image.values.mean(axis=(0, 1), dtype=np.float64), image.values.var(axis=(0, 1), dtype=np.float64))
        for image in looked.images(found)
    ]
    if not moments:  # all images are broken, which preparing them says
        return {"image_mean": [0.0] * found.channels, "image_std": [1.0] * found.channels}
    means, variances = (np.stack(part) for part in zip(*moments, strict=True))
    std = np.sqrt(variances.mean(axis=0) + means.var(axis=0))
    return {"image_mean": means.mean(axis=0).tolist(), "image_std": np.where(std > 0, std, 1.0).tolist()}


def _shown(values: list[float]) -> str:
    more = ", ..." if len(values) > _SHOWN else ""
    return f"[{', '.join(f'{value:.4g}' for value in values[:_SHOWN])}{more}]"
