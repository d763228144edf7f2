"""data2vec and data2vec 2.0 pre-training for any encoder of transformers.

The files `*_data2vec_generic.py` are the model: configuration and modeling, and then what these use. They are saved
with each checkpoint and import nothing else of the package. To follow a run, read `data`, `modalities`, `masking` and
`training`; `finetuning`, `evaluation` and `reporting` use its result.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForCTC,
    AutoModelForImageClassification,
    AutoModelForPreTraining,
    AutoModelForSemanticSegmentation,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoModelForVideoClassification,
)

from .classification_data2vec_generic import (
    Data2VecGenericForSemanticSegmentation,
    Data2VecGenericForSequenceClassification,
    Data2VecGenericForTokenClassification,
)
from .configuration_data2vec_generic import Data2VecGenericConfig
from .data2vec2_encoders_data2vec_generic import (
    Data2Vec2AudioConfig,
    Data2Vec2AudioForCTC,
    Data2Vec2AudioModel,
    Data2Vec2TextConfig,
    Data2Vec2TextModel,
    Data2Vec2VisionConfig,
    Data2Vec2VisionModel,
)
from .modeling_data2vec_generic import (
    Data2VecGenericForPreTraining,
    Data2VecGenericForPreTrainingOutput,
    Data2VecGenericModel,
)

if TYPE_CHECKING:
    from .exporting.exporter import export
    from .masking.sampler import MaskSampler
    from .modalities.series.collator import DataCollatorForData2VecSeries
    from .modalities.speech.collator import DataCollatorForData2VecSpeech
    from .modalities.text.collator import DataCollatorForData2VecText
    from .modalities.video.collator import DataCollatorForData2VecVideo
    from .modalities.vision.collator import DataCollatorForData2VecVision
    from .runs.embedding import embed
    from .runs.finetuning import finetune
    from .runs.pretraining import pretrain
    from .training.arguments import Data2VecTrainingArguments
    from .training.trainer import Data2VecTrainer

AutoConfig.register(Data2VecGenericConfig.model_type, Data2VecGenericConfig)
AutoModel.register(Data2VecGenericConfig, Data2VecGenericModel)
for _config_class, _model_class in (
    (Data2Vec2TextConfig, Data2Vec2TextModel),
    (Data2Vec2VisionConfig, Data2Vec2VisionModel),
    (Data2Vec2AudioConfig, Data2Vec2AudioModel),
):
    AutoConfig.register(_config_class.model_type, _config_class)
    AutoModel.register(_config_class, _model_class)
AutoModelForCTC.register(Data2Vec2AudioConfig, Data2Vec2AudioForCTC)
AutoModelForPreTraining.register(Data2VecGenericConfig, Data2VecGenericForPreTraining)
for _auto_class in (
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoModelForAudioClassification,
    AutoModelForVideoClassification,
):
    _auto_class.register(Data2VecGenericConfig, Data2VecGenericForSequenceClassification)
AutoModelForSemanticSegmentation.register(Data2VecGenericConfig, Data2VecGenericForSemanticSegmentation)
AutoModelForTokenClassification.register(Data2VecGenericConfig, Data2VecGenericForTokenClassification)

# Public names that are imported when they are first used, by their modules: what they need takes seconds to import.
_IMPORTED_WHEN_USED = {
    "Data2VecTrainer": "training.trainer",
    "Data2VecTrainingArguments": "training.arguments",
    "DataCollatorForData2VecSeries": "modalities.series.collator",
    "DataCollatorForData2VecSpeech": "modalities.speech.collator",
    "DataCollatorForData2VecText": "modalities.text.collator",
    "DataCollatorForData2VecVideo": "modalities.video.collator",
    "DataCollatorForData2VecVision": "modalities.vision.collator",
    "MaskSampler": "masking.sampler",
    "embed": "runs.embedding",
    "export": "exporting.exporter",
    "finetune": "runs.finetuning",
    "pretrain": "runs.pretraining",
}

__all__ = [
    "Data2Vec2AudioConfig",
    "Data2Vec2AudioForCTC",
    "Data2Vec2AudioModel",
    "Data2Vec2TextConfig",
    "Data2Vec2TextModel",
    "Data2Vec2VisionConfig",
    "Data2Vec2VisionModel",
    "Data2VecGenericConfig",
    "Data2VecGenericForPreTraining",
    "Data2VecGenericForPreTrainingOutput",
    "Data2VecGenericForSemanticSegmentation",
    "Data2VecGenericForSequenceClassification",
    "Data2VecGenericForTokenClassification",
    "Data2VecGenericModel",
    "Data2VecTrainer",
    "Data2VecTrainingArguments",
    "DataCollatorForData2VecSeries",
    "DataCollatorForData2VecSpeech",
    "DataCollatorForData2VecText",
    "DataCollatorForData2VecVideo",
    "DataCollatorForData2VecVision",
    "MaskSampler",
    "embed",
    "export",
    "finetune",
    "pretrain",
]


def __getattr__(name: str) -> Any:
    if name not in _IMPORTED_WHEN_USED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_IMPORTED_WHEN_USED[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_IMPORTED_WHEN_USED})
