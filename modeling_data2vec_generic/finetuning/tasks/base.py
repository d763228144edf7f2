"""What a fine-tuning run asks of any task."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from ...data.arguments import DataArguments
from ...modalities import modality_class
from ...modalities.base_modality import Modality
from ...modeling_data2vec_generic import Data2VecGenericPreTrainedModel
from ...training.arguments import ModelArguments
from ..arguments import FinetuningArguments, TaskArguments

Splits = dict[str, Dataset]
Collate = Callable[[list[dict[str, Any]]], dict[str, Tensor]]


class Task(ABC):
    """One task, from raw rows to predictions.

    The order of a run: make one, let it `encode` the labels of the source's splits, hold rows out, let it `read` the
    others, choose rows, `check` the choice, `fit` to an encoder, `prepare` the rows, then train a model of
    `auto_class` with `settings`.

    Attributes:
        name: as --task has it.
        modality_name: which of `MODALITIES` it reads.
        auto_class: the Auto class of transformers that loads a model for it; None if there is none.
        own_head: this package's model for it, for types of encoders without one in transformers, if there is one.
        label_column: usual name of the label column.
        reads_words: whether its text is split into words already.
        reads_text_labels: whether labels are text, or lists of it, even if all of them are numbers.
        main_metric: the metric that runs are compared by.
        defaults: flags by name that hold where the user gives none, with their source.
        reference_batch_size: samples per optimizer step that the learning rate of `defaults` is for; it is scaled by
            the batch. None: not scaled.
        drop_path: default of --drop_path for encoders that have it.
        on_frozen_features: whether --knn and --linear_probe can do it, which have one answer per sample.
        own_flags: names of the flags that it reads and some other tasks don't.
        modality: its data, encoder and processor belong together; made by `read`.
        processor: tokenizer, image processor or feature extractor.
    """

    name: ClassVar[str]
    modality_name: ClassVar[str]
    auto_class: Any
    own_head: ClassVar[type[Data2VecGenericPreTrainedModel] | None] = None
    label_column: ClassVar[str] = "label"
    reads_words: ClassVar[bool] = False
    reads_text_labels: ClassVar[bool] = False
    defaults: ClassVar[Mapping[str, Any]]
    reference_batch_size: ClassVar[int | None] = None
    drop_path: ClassVar[float | None] = None
    on_frozen_features: ClassVar[bool] = False
    own_flags: ClassVar[tuple[str, ...]] = ()
    modality: Modality

    def __init__(
        self,
        model_args: ModelArguments,
        data_args: DataArguments,
        task_args: TaskArguments,
        training_args: FinetuningArguments,
    ):
        self.model_args, self.data_args, self.task_args = model_args, data_args, task_args
        self.training_args = training_args

    @classmethod
    @abstractmethod
    def takes(cls, label: Any) -> bool:
        """Whether labels of this type (a feature of `datasets`) are made for the task."""

    @classmethod
    def defaults_for(cls, label: Any, problem_type: str | None) -> Mapping[str, Any]:
        """Those of `defaults` that are of use with labels of this type (a feature of `datasets`)."""
        return cls.defaults

    @property
    @abstractmethod
    def main_metric(self) -> str: ...

    @property
    def processor(self) -> Any:
        return self.modality.processor

    @abstractmethod
    def encode(self, splits: Splits) -> Splits:
        """The same rows with labels as the model takes them. ValueError for labels that can't be used."""

    def read(self, train: Dataset) -> None:
        """Make `modality`, which may look at the training rows: a tokenizer may be trained on them."""
        self.modality = modality_class(self.modality_name)(self.model_args, self.data_args, train)

    def check(self, train: Dataset) -> None:  # noqa: B027  # most tasks take any rows
        """Raise ValueError if the training rows, as they were chosen, can't be learned from."""

    def strata(self, dataset: Dataset) -> NDArray[np.int64] | None:
        """(N,) classes that a choice of rows should keep the shares of; None where there are none."""
        return None

    def counts(self, dataset: Dataset) -> Mapping[str, int]:
        """Rows of each class, by its name; empty where rows have no classes."""
        return {}

    def settings(self) -> dict[str, Any]:
        """Fields of the model's configuration."""
        return {}

    def fit_head(self, model: PreTrainedModel, encoder: nn.Module, inputs: Mapping[str, Tensor]) -> list[nn.Linear]:
        """Layers of the model's head that are saved otherwise than they are trained; none by default. `encoder` is no
        part of the head, `inputs` are those of some samples."""
        return []

    def fit(self, encoder: PreTrainedModel) -> None:
        """Take from the encoder what the processor needs. ValueError if it is one for other data."""
        self.modality.fit_processor(encoder)

    @abstractmethod
    def prepare(self, rows: Dataset, split: str) -> Dataset:
        """Samples with `label`, and `sample_index`; bad ones are left out."""

    @abstractmethod
    def inputs(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        """The encoder's inputs, not augmented."""

    @abstractmethod
    def collator(self, training: bool) -> Collate:
        """Samples to the model's inputs and `labels`."""

    def loss(self, model: nn.Module, inputs: Mapping[str, Any]) -> tuple[Tensor, Any]:
        """A scalar, the mean over the batch, and the model's output. By default the model's own."""
        outputs = model(**inputs)
        return outputs.loss, outputs

    def answers(self, logits: Tensor) -> Tensor:
        """What a batch's logits say, for metrics and predictions; all of them by default. Of an output for each
        position the best class is far less to hold."""
        return logits

    def kept(self, answers: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """What is kept of a batch's `answers` and labels until all samples have been evaluated; both by default."""
        return answers, labels

    @abstractmethod
    def metrics(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """By name, without "eval_" in front. `logits` are the answers and `labels` the labels of all samples, as they
        are `kept`; where samples differ in length Trainer has filled both up with -100."""

    @abstractmethod
    def predictions(self, logits: np.ndarray, labels: np.ndarray, dataset: Dataset) -> Iterable[dict[str, Any]]:
        """A row per sample for predictions.jsonl: `id`, which is its row's number in the source, label and
        prediction."""

    def labels(self, dataset: Dataset) -> np.ndarray:
        """Of all samples, as the collator gives those of a batch."""
        raise NotImplementedError

    def on_features(self, method: str, train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray) -> np.ndarray:
        """Scores (N, K), to be read as logits, that "knn" or "linear_probe" gives by frozen features (N, C)."""
        raise NotImplementedError

    def draw(self, logits: np.ndarray, labels: np.ndarray, dataset: Dataset, directory: Any) -> list[Any]:
        """Figures of the predictions; returns their paths. Called only where matplotlib is installed."""
        return []

    def shown(self, logits: np.ndarray, labels: np.ndarray) -> list[int]:
        """The rows of the samples that `draw_shown` draws; none by default. These are predicted once more, since their
        answers are not as they are `kept`."""
        return []

    def draw_shown(self, answers: Mapping[int, np.ndarray], dataset: Dataset, directory: Any) -> list[Any]:
        """Figures of the samples that are `shown`; returns their paths. `answers` are theirs by row. Called only where
        matplotlib is installed."""
        return []
