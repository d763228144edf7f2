"""The flags of each run: dataclasses whose fields they are."""

from typing import Any

from ..data.arguments import DataArguments
from ..finetuning.arguments import FinetuningArguments, TaskArguments
from ..masking.sampler import MaskArguments
from ..training.arguments import Data2VecTrainingArguments, ModelArguments, ObjectiveArguments

PRETRAINING: tuple[Any, ...] = (
    ModelArguments,
    DataArguments,
    MaskArguments,
    ObjectiveArguments,
    Data2VecTrainingArguments,
)
FINETUNING: tuple[Any, ...] = (ModelArguments, DataArguments, TaskArguments, FinetuningArguments)
