"""The interface of all tasks."""

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
    """A task, from raw rows to predictions.

    A run calls its methods in this order: `encode` the labels of the source's splits; after some rows have been held
    out, `read` the training rows; after rows have been chosen, `check` them; `fit` the processor to an encoder;
    `prepare` the rows; then train a model of `auto_class` with `settings`, for which `collator` makes the batches and
    `loss` the loss; at the end, `metrics`, `predictions` and figures (`draw`).

    Shapes: N samples of a split, B samples of a batch, C channels of the features, K classes.

    Attributes:
        name: as in --task.
        modality_name: which of `KINDS` it reads.
        auto_class: the Auto class of transformers that loads a model for the task; None if there is none.
        own_head: this package's model for the task, for encoders whose type has none in transformers; None if there
            is none.
        label_column: usual name of the label column.
        reads_words: whether its texts are already split into words.
        reads_text_labels: whether labels are read as text (or lists of texts), even if all of them look like numbers.
        main_metric: name of the metric by which runs are compared.
        defaults: published values for flags that are not given, by name.
        reference_batch_size: number of samples per optimizer step for which the learning rate in `defaults` was
            published. It is scaled to the batch of the run; None: it is not scaled.
        drop_path: default of --drop_path, for encoders that have it.
        on_frozen_features: whether --knn and --linear_probe are possible, which give one answer per sample.
        pipeline_tag: the pipeline of transformers for its models, and their tag on the Hub; None if there is none.
        pipeline_input: what such a pipeline is called with, as code for the model card.
        model_call: the arguments of a call of the model, as code; empty if they are those of the modality's encoders.
        own_flags: names of the flags that it reads and some other tasks do not.
        modality: prepares the data for the encoder; made by `read`.
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
    pipeline_tag: ClassVar[str | None] = None
    pipeline_input: ClassVar[str] = ""
    model_call: ClassVar[str] = ""
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
        """Whether labels of this type (a feature of `datasets`) mean this task if --task is not given."""

    @classmethod
    def defaults_for(cls, label: Any, problem_type: str | None) -> Mapping[str, Any]:
        """Those of `defaults` that apply to labels of this type (a feature of `datasets`); all of them by default."""
        return cls.defaults

    @property
    @abstractmethod
    def main_metric(self) -> str: ...

    @property
    def processor(self) -> Any:
        return self.modality.processor

    @property
    def processor_class(self) -> Any:
        """The Auto class that loads `processor` where it is saved with a model; None if there is none."""
        return self.modality.processor_class

    @abstractmethod
    def encode(self, splits: Splits) -> Splits:
        """Return the splits with encoded labels.

        Raises:
            ValueError: the labels can't be used for the task.
        """

    def read(self, train: Dataset) -> None:
        """Make `modality`, which may train a tokenizer on the training rows."""
        self.modality = modality_class(self.modality_name)(self.model_args, self.data_args, train)

    def check(self, train: Dataset) -> None:  # noqa: B027  # most tasks take any rows
        """Check the training rows that were chosen.

        Raises:
            ValueError: nothing can be learned from them.
        """

    def strata(self, dataset: Dataset) -> NDArray[np.int64] | None:
        """(N,) classes whose shares a choice of rows should keep; None if there are none, which is the default."""
        return None

    def counts(self, dataset: Dataset) -> Mapping[str, int]:
        """Number of rows of each class, by its name; empty if rows have no classes, which is the default."""
        return {}

    def settings(self) -> dict[str, Any]:
        """Fields of the model's configuration, by name."""
        return {}

    def fit_head(self, model: PreTrainedModel, encoder: nn.Module, inputs: Mapping[str, Tensor]) -> list[nn.Linear]:
        """Prepare a new head. By default, nothing is done.

        Args:
            encoder: the sub-module of `model` that is not part of the head.
            inputs: the model's inputs for some samples.

        Returns:
            The layers that from now on are saved in other units than they are trained in.
        """
        return []

    def fit(self, encoder: PreTrainedModel) -> None:
        """Fit the processor to the encoder.

        Raises:
            ValueError: the encoder is for other data.
        """
        self.modality.fit_processor(encoder)

    @abstractmethod
    def prepare(self, rows: Dataset, split: str) -> Dataset:
        """Make samples of rows, with `label` and `sample_index`; bad ones are left out."""

    @abstractmethod
    def inputs(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        """The encoder's inputs for some samples, without augmentation."""

    @abstractmethod
    def collator(self, training: bool) -> Collate:
        """A function that makes a batch of samples: the model's inputs, and `labels`."""

    def loss(self, model: nn.Module, inputs: Mapping[str, Any]) -> tuple[Tensor, Any]:
        """The loss, a scalar that is the mean over the batch, and the model's output. By default, the model's loss."""
        outputs = model(**inputs)
        return outputs.loss, outputs

    def answers(self, logits: Tensor) -> Tensor:
        """What metrics and predictions need of a batch's logits. By default, it is the logits.

        Tasks with an output for each position return the best class instead, which takes far less memory.
        """
        return logits

    def kept(self, answers: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """What is kept of a batch's answers and labels until all samples have been evaluated. By default, it is both.

        Args:
            answers: as returned by `answers`.
        """
        return answers, labels

    @abstractmethod
    def metrics(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Metrics by name, without "eval_" in front.

        Args:
            logits, labels: for all samples, what `kept` returns. Where samples differ in length, Trainer pads both
                with -100.
        """

    @abstractmethod
    def predictions(self, logits: np.ndarray, labels: np.ndarray, dataset: Dataset) -> Iterable[dict[str, Any]]:
        """A row per sample for predictions.jsonl, with `id` (number of its row in the source), label and prediction.

        Args:
            logits, labels: as for `metrics`.
            dataset: the samples.
        """

    def labels(self, dataset: Dataset) -> np.ndarray:
        """The labels of all samples, as the collator returns those of a batch."""
        raise NotImplementedError

    def on_features(self, method: str, train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray) -> np.ndarray:
        """Fit a simple model to frozen features of the training rows and return its scores for others.

        See `Target.on_features`.
        """
        raise NotImplementedError

    def draw(self, logits: np.ndarray, labels: np.ndarray, dataset: Dataset, directory: Any) -> list[Any]:
        """Draw figures of the predictions and return their paths. It is called only if matplotlib is installed."""
        return []

    def shown(self, logits: np.ndarray, labels: np.ndarray) -> list[int]:
        """The rows of the samples that `draw_shown` draws; none by default.

        They are predicted once more, because `kept` does not keep their complete answers.
        """
        return []

    def draw_shown(self, answers: Mapping[int, np.ndarray], dataset: Dataset, directory: Any) -> list[Any]:
        """Draw figures of the samples that `shown` names and return their paths.

        It is called only if matplotlib is installed.

        Args:
            answers: the complete answers of these samples, by row.
        """
        return []
