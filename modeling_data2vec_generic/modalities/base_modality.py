"""The base class of the kinds of data: what a run asks of each."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel
from transformers.utils import cached_file, logging

from ..data.arguments import DataArguments
from ..errors import as_value_error
from ..evaluation.probe import ContentMask
from ..masking.sampler import MaskSampler
from ..training.arguments import ModelArguments

logger = logging.get_logger(__name__)


class Modality(ABC):
    """One kind of data, from raw rows to batches.

    A run makes an instance, asks for `encoder_defaults`, builds the encoder, calls `fit` with it, then `prepare` for
    each split, and finally makes a `collator`.

    Args:
        model_args, data_args: the flags.
        raw: the training rows, as `load_raw_datasets` gives them.

    Attributes:
        processor: the tokenizer, image processor or feature extractor, which is saved beside the encoder; None if
            there is none.
        reads: the main input of an encoder for this kind of data, such as "pixel_values".
        suggestions: types of encoders that messages suggest.
        processor_class: the Auto class that loads `processor`; None if there is none.
        pipeline_tag: the encoder's pipeline tag on the Hub.
        probe_task: what the Hub calls the task of telling the classes of such data.
        unit: what the positions of the encoder are, in words.
        encoder_call: the arguments of a call of the encoder, as code for the model card.
        lengths_wanted: whether samples need a column `length` where they differ in it, in tokens or samples of sound.
            Set before `prepare`, which may take longer with it.
    """

    processor: Any
    reads: ClassVar[str]
    suggestions: ClassVar[str]
    processor_class: ClassVar[Any]
    pipeline_tag: ClassVar[str] = "feature-extraction"
    probe_task: ClassVar[str] = "other"
    unit: ClassVar[str] = "patches"
    encoder_call: ClassVar[str]
    lengths_wanted = False

    def __init__(self, model_args: ModelArguments, data_args: DataArguments, raw: Dataset):
        self.model_args, self.data_args = model_args, data_args
        self.source = model_args.processor_name or model_args.model_name_or_path or model_args.config_name

    def saved_processor(self, **options: Any) -> Any:
        """Loads the processor that is saved beside the encoder, or that --processor_name names.

        Args:
            options: for `from_pretrained` of `processor_class`.

        Returns:
            None, with a warning, if no processor is saved beside the encoder.

        Raises:
            ValueError: its files are damaged.
        """
        if self.source is None:
            return None
        names = ("preprocessor_config.json", "processor_config.json")
        optional = {f"_raise_exceptions_for_{kind}": False for kind in ("missing_entries", "gated_repo")}
        if self.model_args.processor_name is None and not any(
            cached_file(self.source, name, **optional) for name in names
        ):
            logger.warning(f"{self.source} holds no processor; one is made from the encoder's configuration.")
            return None
        return self.load_processor(self.processor_class, **options)

    def load_processor(self, auto_class: Any, **options: Any) -> Any:
        """Like `saved_processor`, but raises ValueError if there is no processor, too."""
        with as_value_error(
            f"{auto_class.__name__} cannot load {self.source!r}",
            "Repair its files, or name another folder or Hub id with --processor_name.",
        ):
            trust = self.model_args.trust_remote_code
            return auto_class.from_pretrained(self.source, trust_remote_code=trust, **options)

    def encoder_defaults(self) -> dict[str, Any]:
        """Fields of a new encoder's configuration that depend on the data. The base class sets none."""
        return {}

    @abstractmethod
    def fit(self, encoder: PreTrainedModel) -> None:
        """Sets `processor`, and what the collator has to know about the encoder.

        Raises:
            ValueError: the encoder cannot read these data.
        """

    def fit_processor(self, encoder: PreTrainedModel) -> None:
        """Like `fit`, but sets only what preparing data needs, so that encoders that `fit` refuses may be used.

        The base class calls `fit`.
        """
        self.fit(encoder)

    def read_whole(self, encoder: PreTrainedModel) -> None:  # noqa: B027  # only text has a limit of its own
        """Lets rows be as long as the encoder can read them, where the flags do not say how long; before `fit`."""

    def check_encoder(self, encoder: PreTrainedModel) -> None:
        """Raises ValueError if the encoder reads another kind of data."""
        if encoder.main_input_name != self.reads:
            raise ValueError(
                f"A {encoder.config.model_type} encoder reads {encoder.main_input_name}, and these data give "
                f"{self.reads}. Choose e.g. {self.suggestions}, or say what the data are with --modality."
            )

    @abstractmethod
    def check(self, mask: MaskSampler) -> None:
        """Raises ValueError if masks would cover nothing or everything of a full sample."""

    @abstractmethod
    def prepare(self, raw: Dataset, split: str, mask: MaskSampler) -> Dataset:
        """Turns raw rows into samples to train on. Bad rows are left out, counted and named.

        Args:
            raw: the rows of a split, as `load_raw_datasets` gives them.
            split: "train" or "validation", for messages.
            mask: the masks, which need samples of a certain length.

        Raises:
            ValueError: too many rows are bad, or none is left.
        """

    @abstractmethod
    def prepare_whole(self, raw: Dataset, split: str) -> Dataset:
        """Like `prepare`, but each row as a whole and without regard to masks: samples to compute features of.

        Text is one sequence per row. Series, clips and sound longer than what is read at a time become consecutive
        samples, which have the number of their row in the column `clip`, or `row` for series. Silence is kept.
        """

    def prepare_labelled(self, raw: Dataset, split: str, prepared: Dataset) -> Dataset | None:
        """Samples with labels, for the probe; None if there are no labels. The base class gives `prepared`."""
        return prepared if "label" in prepared.column_names else None

    @abstractmethod
    def collator(self, mask: MaskSampler, num_masks: int, seed: int, student_input: str) -> Any:
        """The collator for training. Its `for_evaluation()` is for evaluation, and its `plain` for the probe.

        Args:
            mask: how masks are drawn.
            num_masks: masks per sample.
            seed: of masks and crops.
            student_input: what the student reads at masked positions, as in `Data2VecGenericConfig`.
        """

    @abstractmethod
    def content_mask(self) -> ContentMask:
        """Which positions of the encoder's output the probe averages."""

    @abstractmethod
    def plot_masks(self, batch: dict[str, torch.Tensor], path: Path) -> None:
        """Saves a picture of the samples of a batch, each with its first mask."""

    @abstractmethod
    def plot_features(
        self, batch: dict[str, torch.Tensor], colours: Mapping[str, Sequence[np.ndarray]], path: Path
    ) -> None:
        """Saves a picture of samples and of the features of their parts, such as patches, as colours.

        Args:
            batch: of samples, without masks.
            colours: what the features are of, such as "before training", and of each sample the colours of all
                positions that `content_mask` chooses: (T, 3), or (channels, T, 3), from 0 to 1.
            path: the file.
        """

    @abstractmethod
    def samples_of(self, batch: dict[str, torch.Tensor]) -> list[Any]:
        """The samples of a batch without masks as people look at them: images (H, W, 3) from 0 to 1, waveforms (S,),
        series (T, channels) or texts."""
