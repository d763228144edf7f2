"""What a run asks of any kind of data."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from datasets import Dataset
from transformers import PreTrainedModel
from transformers.utils import cached_file, logging

from ..data.arguments import DataArguments
from ..errors import loading
from ..evaluation.probe import ContentMask
from ..masking.sampler import MaskSampler
from ..training.arguments import ModelArguments

logger = logging.get_logger(__name__)


class Modality(ABC):
    """One kind of data, from raw rows to batches.

    The order of a run: make one, ask for `encoder_defaults`, build the encoder, `fit` to it, `prepare` the data, make
    a collator.

    Args:
        model_args, data_args: the flags.
        raw: the training rows, as `load_raw_datasets` gives them.

    Attributes:
        processor: the tokenizer, image processor or feature extractor, to be saved beside the encoder; `None` where
            there is none.
    """

    processor: Any
    reads: ClassVar[str]  # the main input of an encoder for this kind of data
    suggestions: ClassVar[str]

    def __init__(self, model_args: ModelArguments, data_args: DataArguments, raw: Dataset):
        self.model_args, self.data_args = model_args, data_args
        self.source = model_args.processor_name or model_args.model_name_or_path or model_args.config_name

    def saved_processor(self, auto_class: Any, **options: Any) -> Any:
        """What is saved beside the encoder or named by --processor_name; `None` if the encoder came without one."""
        if self.source is None:
            return None
        names = ("preprocessor_config.json", "processor_config.json")
        optional = {f"_raise_exceptions_for_{kind}": False for kind in ("missing_entries", "gated_repo")}
        if self.model_args.processor_name is None and not any(
            cached_file(self.source, name, **optional) for name in names
        ):
            logger.warning(f"{self.source} holds no processor; one is made from the encoder's configuration.")
            return None
        return self.load_processor(auto_class, **options)

    def load_processor(self, auto_class: Any, **options: Any) -> Any:
        """The tokenizer, image processor or feature extractor of `source`; ValueError if its files are damaged."""
        with loading(
            f"{auto_class.__name__} cannot load {self.source!r}",
            "Repair its files, or name another folder or Hub id with --processor_name.",
        ):
            trust = self.model_args.trust_remote_code
            return auto_class.from_pretrained(self.source, trust_remote_code=trust, **options)

    def encoder_defaults(self) -> dict[str, Any]:
        """Fields of a new encoder's configuration that the data settle."""
        return {}

    @abstractmethod
    def fit(self, encoder: PreTrainedModel) -> None:
        """Take from the encoder what processor and collator need.

        Raises:
            ValueError: encoder and data do not go together.
        """

    def fit_processor(self, encoder: PreTrainedModel) -> None:
        """As `fit`, but only for the processor, where that asks less of the encoder."""
        self.fit(encoder)

    def check_encoder(self, encoder: PreTrainedModel) -> None:
        """Raise ValueError if the encoder is one for another kind of data."""
        if encoder.main_input_name != self.reads:
            raise ValueError(
                f"A {encoder.config.model_type} encoder reads {encoder.main_input_name}, and these data give "
                f"{self.reads}. Choose e.g. {self.suggestions}, or say what the data are with --modality."
            )

    @abstractmethod
    def check(self, mask: MaskSampler) -> None:
        """Raise ValueError if the mask would cover nothing or everything of a full sample."""

    @abstractmethod
    def prepare(self, raw: Dataset, split: str, mask: MaskSampler) -> Dataset:
        """Samples that can be trained on; bad ones are left out, counted and named."""

    def prepare_labelled(self, raw: Dataset, split: str, prepared: Dataset) -> Dataset | None:
        """Samples with labels for the probe, where there are labels."""
        return prepared if "label" in prepared.column_names else None

    @abstractmethod
    def collator(self, mask: MaskSampler, num_masks: int, seed: int, student_input: str) -> Any:
        """The training collator; its `for_evaluation()` and `plain` serve the rest."""

    @abstractmethod
    def content_mask(self) -> ContentMask:
        """Which positions of the encoder's output are content."""

    @abstractmethod
    def plot_mask(self, batch: dict[str, torch.Tensor], path: Path) -> None:
        """A picture of the first sample of a batch and its first mask."""
