"""The numbers that settings are chosen by, and where each comes from. This is the place to tune them.

Objective, masks and optimizer are those of a recipe, which is named here for each size of encoder: mostly the recipes
`own_*.json` for small encoders, and the published ones for base and large. What lies between is our judgement, and so
is where one ends and the other begins.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Size:
    """The size of an encoder.

    Args:
        blocks, width, heads: of the transformer. Feed-forward layers are four times as wide.
    """

    blocks: int
    width: int
    heads: int


SIZES = {
    "tiny": Size(4, 128, 4),
    "small": Size(6, 192, 6),
    "medium": Size(12, 384, 6),
    "base": Size(12, 768, 12),
    "large": Size(24, 1024, 16),
}


# The teacher has to move during the run: a decay of .999 forgets half of its weights in 693 steps, .9995 in 1,386,
# .9999 in 6,931 and .99999 in 69,314 (docs/settings.md). The rows are those of digits.json, of own_images.json, and of
# the published data2vec and data2vec 2.0 models.
TEACHER: Mapping[float, tuple[float, float]] = {
    1_000: (0.99, 0.999),
    30_000: (0.99, 0.9995),
    200_000: (0.999, 0.9999),
    float("inf"): (0.9998, 0.99999),
}
# Of small encoders of text by data2vec 2.0, for which a quicker teacher is better in runs of some thousand steps
# (docs/results.md, "With no other flag", and "How far settings may be moved"). data2vec collapses by it.
QUICK_TEACHER: Mapping[float, tuple[float, float]] = {
    5_000: (0.9, 0.99),
    **{most: decays for most, decays in TEACHER.items() if most > 5_000},
}
# Of proteins, whose recipes have a slower teacher from the beginning.
SLOW_TEACHER: Mapping[float, tuple[float, float]] = {
    200_000: (0.999, 0.9999),
    float("inf"): (0.999, 0.99999),
}


@dataclass(frozen=True)
class Training:
    """How an encoder of one size is trained. What is None is that of the recipe.

    Args:
        recipe: the recipe that objective, masks and optimizer are taken from.
        batch: samples per optimizer step, on all devices together.
        learning_rate: at this batch. At another one it is scaled by the square root of their ratio, the rule for Adam
            (arXiv 2205.10287), which the published models for images follow: 2e-3 at 2,048, and 1e-3 at 512.
        most_steps: of a run, however much data there are.
        changes: settings in place of the recipe's, by which a step is quicker.
        teacher: with the recipe's objective, in place of that of the kind of data.
    """

    recipe: str
    batch: int | None = None
    learning_rate: float | None = None
    most_steps: int | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    teacher: Mapping[float, tuple[float, float]] | None = None


@dataclass(frozen=True)
class Kind:
    """What is chosen for one kind of data.

    Args:
        noun: what its rows are called, in the plural.
        unit: what an amount of such data counts.
        thresholds: by size, the least amount of data for it. The device has a say as well: see `scale_for`.
        training: by size, how it is trained.
        most_epochs: passes over the training data after which more steps are not worth their time.
        pace: the share of a device's speed (below) that such runs reach.
        teacher: by the most steps of a run that they are for, the teacher's decay at the beginning and at the end.
    """

    noun: str
    unit: str
    thresholds: Mapping[str, float]
    training: Mapping[str, Training]
    most_epochs: int = 400
    pace: float = 1.0
    teacher: Mapping[float, tuple[float, float]] = field(default_factory=lambda: TEACHER)


KINDS: Mapping[str, Kind] = {
    "vision": Kind(
        noun="images",
        unit="images",
        thresholds={"small": 2_000, "medium": 5_000, "base": 100_000, "large": 3_000_000},
        training={
            # Batch and rate of the recipe come from short runs (docs/results.md, "How far settings may be moved").
            "tiny": Training("own_images", most_steps=20_000, changes={"num_masks": 4}),
            "small": Training("own_images", batch=128, most_steps=40_000),
            "medium": Training("own_images", batch=256, learning_rate=1e-3, most_steps=100_000),
            "base": Training("vision/data2vec2_base"),
            "large": Training("vision/data2vec2_large"),
        },
    ),
    "text": Kind(
        noun="texts",
        unit="tokens",
        thresholds={"small": 300_000, "medium": 3_000_000, "base": 100_000_000},
        training={
            # 3e-3 was best at this width (docs/results.md, "Text"); for Adam the best rate falls as width rises.
            "tiny": Training("own_text", learning_rate=3e-3, most_steps=20_000, teacher=QUICK_TEACHER),
            "small": Training("own_text", learning_rate=2e-3, most_steps=40_000, teacher=QUICK_TEACHER),
            "medium": Training("own_text", batch=128, learning_rate=1e-3, most_steps=100_000),
            "base": Training("text/data2vec_base"),
        },
    ),
    "proteins": Kind(
        noun="sequences",
        unit="residues",
        thresholds={"small": 1_000_000, "medium": 10_000_000, "base": 300_000_000},
        training={
            "tiny": Training("own_proteins"),
            "small": Training("own_proteins", batch=64, most_steps=40_000),
            "medium": Training("own_proteins", batch=128, learning_rate=7e-4, most_steps=100_000),
            "base": Training("own_proteins", batch=256, learning_rate=4e-4, most_steps=400_000),
        },
        teacher=SLOW_TEACHER,
    ),
    "speech": Kind(
        noun="recordings",
        unit="hours",
        thresholds={"small": 2, "medium": 10, "base": 100},
        training={
            # In the middle of what is good at this width in runs of hundreds of steps: half and twice of it keep nine
            # tenths of the gain (docs/results.md, "How far settings may be moved").
            "tiny": Training("own_recordings", learning_rate=1.4e-3),
            "small": Training("own_recordings", batch=32, learning_rate=4e-4, most_steps=40_000),
            "medium": Training("own_recordings", batch=64, learning_rate=5e-4, most_steps=100_000),
            "base": Training("speech/data2vec_base"),
        },
        pace=0.5,  # convolutions over waveforms: measured on a CPU and on an H200
        teacher={**TEACHER, float("inf"): (0.999, 0.99999)},  # in the end, that of the published data2vec 2.0 model
    ),
    "series": Kind(
        noun="series",
        unit="windows",
        thresholds={"small": 2_000, "medium": 50_000},
        training={
            # As for images; half of the recipe's rate, since these runs are longer (docs/results.md, "How far settings
            # may be moved").
            "tiny": Training("own_series", learning_rate=2e-3, most_steps=10_000),
            "small": Training("own_series", batch=64, learning_rate=2e-3, most_steps=20_000),
            "medium": Training("own_series", batch=128, learning_rate=7e-4, most_steps=50_000),
        },
    ),
    "video": Kind(
        noun="clips",
        unit="clips",
        thresholds={"small": 1_000, "medium": 5_000, "base": 100_000},
        training={
            # data2vec, which is ahead of data2vec 2.0 in such runs (docs/results.md, "With no other flag").
            "tiny": Training("video/moving_digits", most_steps=5_000),
            "small": Training("own_clips", most_steps=20_000),
            "medium": Training("own_clips", batch=128, learning_rate=1e-3, most_steps=50_000),
            "base": Training("own_clips", batch=256, learning_rate=7e-4, most_steps=200_000),
        },
    ),
}

# --- how long a run may take

CPU_MINUTES = 25  # that the steps of a run on a CPU take: about half an hour with evaluations
GPU_HOURS = 24  # the same on GPUs
FEWEST_STEPS = 300  # of a run, also where they take longer: below, hardly anything is learned
FEWEST_BATCHES = 8  # that an epoch has at least, so that a batch is a part of the data
SMALLEST_BATCH = 16
TOO_FEW_ROWS = 200  # below which pre-training is of little use, and a warning says so

# --- how fast a device is, and what fits into it

# FLOP per second of a thread, in a whole step of a small encoder; by `FLOPS` in `cost.py`.
CPU_THREAD = 30e9
# Threads share memory and wait for one another: N of them are as fast as N to this power. Fashion-MNIST took 0.3 s a
# step with two threads and 0.42 s with one.
CPU_THREADS_POWER = 0.7
# The same of a GPU in bf16, by the first number of its compute capability. 9 (H100, H200) was measured with the base
# encoders, the slowest of them, with images and data2vec 2.0, at 145; the others follow from the ratio of their peaks.
GPU: Mapping[int, float] = {10: 250e12, 9: 145e12, 8: 45e12, 7: 10e12}
GPU_UNKNOWN = 10e12
MEMORY_SHARE = 0.6  # of a GPU's memory that activations may take; the rest is for weights, optimizer and torch
LARGE_NEEDS = 4  # GPUs, below which an encoder of the size large would take weeks
CORES_FOR_SMALL = 16  # CPU threads from which the size small ends in time

# --- looks

EVALUATIONS_ON_CPU = 5  # each has a probe, which takes time of the same threads
EVALUATIONS_ON_GPU = 10
PROBE_ON_CPU = (2_000, 1_000)  # rows that the probe is fitted and tested on
SECONDS_BETWEEN_SAVES = 1_800  # at most
MOST_WORKERS = 8  # that decode data for a GPU
