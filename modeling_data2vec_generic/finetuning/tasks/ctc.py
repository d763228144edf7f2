"""Speech recognition with CTC: predicting the transcript of each clip."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Features, Value
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoModelForCTC,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedModel,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2Processor,
)
from transformers.utils import cached_file, logging

from ...data.sources.columns import holds
from ...geometry_data2vec_generic import FrameCounter
from ...modalities.speech.collator import pad_waveforms
from ..labels.transcripts import confusions, frames_needed, new_tokenizer, normalized, read_frames, read_labels
from ..metrics import load_metric
from .base import Collate, Splits, Task

logger = logging.get_logger(__name__)

_SHOWN = 15  # most wrong predictions in the figure
_LISTED = 100  # most classes that the log names


@dataclass(frozen=True)
class TranscriptCollator:
    """Makes batches of clips (`audio`) and transcripts (`label`): the model's inputs and `labels`.

    Inputs are `input_values` and `attention_mask`, (B, S) for S audio samples. Labels are (B, L), padded with -100.

    Args:
        min_samples: smallest S of a batch; shorter batches are padded.
    """

    processor: Wav2Vec2Processor
    min_samples: int = 0

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        batch = pad_waveforms(self.processor.feature_extractor, [example["audio"] for example in examples])
        missing = self.min_samples - batch["input_values"].shape[1]
        if missing > 0:
            batch = {name: functional.pad(values, (0, missing)) for name, values in batch.items()}
        labels = self.processor.tokenizer([example["label"] for example in examples])["input_ids"]
        padded = pad_sequence([torch.tensor(row) for row in labels], batch_first=True, padding_value=-100)
        return {**batch, "labels": padded}


class SpeechRecognition(Task):
    """One clip with its transcript per row. The classes of each frame are the characters.

    The vocabulary is made of the training transcripts, unless --processor_name names a tokenizer. A tokenizer that
    came with the encoder is not used, because the head is new in any case. Clips longer than --max_duration_in_seconds
    are left out, because it is not known what is said in a part of them.

    In some encoders, the padding of a batch has a small effect on the predictions: those with group norm
    (wav2vec2-base), several positional convolutions (data2vec-audio), convolutions in their blocks
    (wav2vec2-conformer) or merged frames (SEW). With --per_device_eval_batch_size 1, predictions are exactly those of
    a pipeline.
    """

    name = "ctc"
    modality_name = "speech"
    pipeline_tag = "automatic-speech-recognition"
    pipeline_input = '{"raw": wave, "sampling_rate": 16000}'
    model_call = (
        "**processor(waves, sampling_rate=processor.feature_extractor.sampling_rate, padding=True, "
        'return_tensors="pt")'
    )
    auto_class = AutoModelForCTC
    label_column = "text"
    reads_text_labels = True
    main_metric = "cer"
    own_flags = (
        "chars_to_ignore",
        "do_lower_case",
        "mask_time_prob",
        "mask_time_length",
        "mask_feature_prob",
        "mask_feature_length",
    )
    # Both papers fine-tune as wav2vec 2.0 does. The values are those for 10 hours of labels (fairseq's base_10h.yaml):
    # learning rate 5e-5 in three stages, Adam's betas .9 and .98, frozen convolutions, an encoder that is frozen in
    # the first 10,000 of 20,000 updates, masks over time and channels. The frozen steps are given as a share, because
    # shorter runs would train only the head otherwise. Epochs and batch are those of transformers' own example; for
    # 20,000 updates, set --max_steps.
    defaults = {
        "learning_rate": 5e-5,
        "per_device_train_batch_size": 16,
        "num_train_epochs": 30,
        "adam_beta2": 0.98,
        "tri_stage": [0.1, 0.4, 0.5],
        "freeze_convolutions": True,
        "freeze_encoder_steps": 0.5,
        "mask_time_prob": 0.65,
        "mask_feature_prob": 0.5,
        "greater_is_better": False,  # if an error rate is metric_for_best_model
    }

    @classmethod
    def takes(cls, label: Any) -> bool:
        return False  # strings are classes, unless --task says otherwise

    @property
    def processor(self) -> Wav2Vec2Processor:
        return Wav2Vec2Processor(self.modality.processor, self.tokenizer)

    @property
    def processor_class(self) -> Any:
        return AutoProcessor

    def encode(self, splits: Splits) -> Splits:
        if (name := self.data_args.text_column_name) is not None:
            raise ValueError(f"text_column_name={name!r} is for input texts. Use --label_column_name {name}.")
        # They are loaded now, so that a missing package raises an error before training.
        self.error_rates = [load_metric(name) for name in ("cer", "wer")]
        ignored, lower_case = self.task_args.chars_to_ignore or (), self.task_args.do_lower_case
        encoded = {}
        for split, dataset in splits.items():
            feature = dataset.features["label"]
            if not holds(feature, "text"):
                raise ValueError(
                    f"The transcripts of the {split} data are {feature}, and strings are expected. Name their column "
                    "with --label_column_name."
                )
            texts = [normalized(text, ignored, lower_case) for text in dataset["label"][:]]
            column = Dataset.from_dict({"label": texts}, Features({"label": Value("string")}))
            encoded[split] = dataset.remove_columns("label").add_column("label", column.data.column("label"))
        return encoded

    def check(self, train: Dataset) -> None:
        """Check the training rows as described in the base class, and make the tokenizer."""
        given = self._given_tokenizer()
        self.tokenizer = given or new_tokenizer(train["label"][:])
        if given is None and len(self.tokenizer) == len(new_tokenizer([])):
            raise ValueError(
                f"None of the {len(train)} training rows has a transcript. Check label_column_name and "
                "chars_to_ignore."
            )
        logger.info(f"{len(self.tokenizer)} classes: {' '.join(list(self.tokenizer.get_vocab())[:_LISTED])}")

    def _given_tokenizer(self) -> Wav2Vec2CTCTokenizer | None:
        """The tokenizer that --processor_name names, or None."""
        name = self.modality.model_args.processor_name
        if name is None or not cached_file(name, "tokenizer_config.json", _raise_exceptions_for_missing_entries=False):
            return None
        tokenizer = self.modality.load_processor(AutoTokenizer)
        if not isinstance(tokenizer, Wav2Vec2CTCTokenizer):
            raise ValueError(
                f"processor_name={name!r} holds a {type(tokenizer).__name__}, and CTC needs a Wav2Vec2CTCTokenizer. "
                "Leave the flag out to have a tokenizer made of the transcripts."
            )
        return tokenizer

    def settings(self) -> dict[str, Any]:
        flags = self.task_args
        return {
            "vocab_size": len(self.tokenizer),
            "pad_token_id": self.tokenizer.pad_token_id,
            # The mean over clips of the loss per character, as in transformers' own example. It depends neither on the
            # size of the batch nor on the length of the transcripts. fairseq's loss is the mean over clips.
            "ctc_loss_reduction": "mean",
            "ctc_zero_infinity": True,  # as published, though rows with an infinite loss have been left out
            "apply_spec_augment": True,
            "mask_time_prob": flags.mask_time_prob,
            "mask_time_length": flags.mask_time_length,
            "mask_feature_prob": flags.mask_feature_prob,
            "mask_feature_length": self.mask_feature_length,
            "mask_feature_min_masks": 0,  # the default of other types; WavLM reads it but does not define it
        }

    def fit(self, encoder: PreTrainedModel) -> None:
        """Fit the processor as the base class does, and choose the width of masks over channels."""
        self.modality.fit(encoder)
        config = encoder.config
        self.num_frames = frame_counter(config)
        length = self.task_args.mask_feature_length
        if length is not None and length > config.hidden_size:
            raise ValueError(
                f"mask_feature_length={length}, but the encoder has {config.hidden_size} channels. Lower it."
            )
        if getattr(config, "feat_extract_norm", None) == "group":
            logger.info(
                "This encoder normalises each clip together with its padding (feat_extract_norm='group'), so what it "
                "predicts depends a little on the batch. With --per_device_eval_batch_size 1 there is no padding."
            )
        # 64 of the 768 channels of a base model, and of the 1,024 of a large one.
        self.mask_feature_length = length or max(1, min(64, config.hidden_size // 12))

    def prepare(self, rows: Dataset, split: str) -> Dataset:
        from ...modalities.speech.waveforms import prepare_clips  # needs the packages for sound

        extractor, shortest = self.modality.processor, self.num_frames.samples_for(1)
        self._report_unknown(rows, split)
        return prepare_clips(rows, extractor, self.data_args, split, shortest, self._label_problem)

    def _label_problem(self, text: str, samples: int) -> str:
        """Why a clip of this many audio samples can't be used with this transcript; "" if it can."""
        labels = self.tokenizer(text)["input_ids"]
        if not labels:
            return "no transcript"
        if self.tokenizer.pad_token_id in labels:
            return f"its transcript holds {self.tokenizer.pad_token}, which stands for no character"
        needed, frames = frames_needed(labels), self.num_frames(samples)
        return f"its transcript needs {needed} frames, and there are {frames}" if frames < needed else ""

    def _report_unknown(self, rows: Dataset, split: str) -> None:
        """Warn of characters that are not in the vocabulary.

        Raises:
            ValueError: they are more than half of the text.
        """
        counts = Counter("".join(rows["label"][:]))
        unk = self.tokenizer.unk_token_id
        unknown = {c: n for c, n in counts.most_common() if unk in self.tokenizer(c)["input_ids"]}
        if not unknown:
            return
        listed = ", ".join(f"{character!r} ({n})" for character, n in list(unknown.items())[:10])
        found = f"{len(unknown)} characters of the {split} transcripts are not in the vocabulary: {listed}"
        if sum(unknown.values()) > counts.total() / 2:
            raise ValueError(
                f"{found}. These are most of the text, so the vocabulary does not belong to it. Check "
                "--do_lower_case, --processor_name and the training rows."
            )
        logger.warning(f"{found}. They can't be predicted.")

    def inputs(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        return pad_waveforms(self.modality.processor, [example["audio"] for example in examples])

    def collator(self, training: bool) -> Collate:
        if not training or not self.task_args.mask_time_prob:
            return TranscriptCollator(self.processor)
        # transformers raises an error for a batch that is shorter than a mask.
        frames = self.modality.num_frames.samples_for(self.task_args.mask_time_length)  # type: ignore[attr-defined]
        return TranscriptCollator(self.processor, frames)

    def loss(self, model: nn.Module, inputs: Mapping[str, Any]) -> tuple[Tensor, Any]:
        """The model's loss, as in the base class. In the output, the logits of padding frames are set to blank."""
        outputs = model(**inputs)
        frames: Any = self.num_frames(inputs["attention_mask"].sum(-1))
        logits = outputs["logits"]
        padding = torch.arange(logits.shape[1], device=logits.device) >= frames.unsqueeze(1)
        is_other = torch.arange(logits.shape[2], device=logits.device) != self.tokenizer.pad_token_id
        outputs["logits"] = logits.masked_fill(padding[:, :, None] & is_other, -torch.inf)
        return outputs["loss"], outputs

    def answers(self, logits: Tensor) -> Tensor:
        """(B, T), the best class of each frame."""
        return logits.argmax(-1)

    def metrics(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        texts, found = read_labels(self.tokenizer, labels.tolist()), read_frames(self.tokenizer, logits.tolist())
        rates = [rate.compute(predictions=found, references=texts) for rate in self.error_rates]
        return {name: value for rate in rates for name, value in rate.items()}

    def predictions(self, logits: np.ndarray, labels: np.ndarray, dataset: Dataset) -> list[dict[str, Any]]:
        import jiwer  # an extra

        columns = dataset.with_format(None)
        texts = read_frames(self.tokenizer, logits.tolist())
        return [
            {"id": number, "label": label, "prediction": text, "cer": jiwer.cer(label, text)}
            for number, label, text in zip(columns["clip"][:], columns["label"][:], texts, strict=True)
        ]

    def draw(self, logits: np.ndarray, labels: np.ndarray, dataset: Dataset, directory: Path) -> list[Path]:
        from ...figures.predictions import plot_confused_characters, plot_transcripts

        rows = sorted(self.predictions(logits, labels, dataset), key=lambda row: -row["cer"])
        counts = confusions([row["label"] for row in rows], [row["prediction"] for row in rows])
        if not counts:
            return []
        wrong = [row for row in rows[:_SHOWN] if row["cer"]]
        return [
            plot_transcripts(wrong, directory / "errors.png"),
            plot_confused_characters(counts, directory / "confusions.png"),
        ]


def frame_counter(config: Any) -> FrameCounter:
    """How many frames the head reads, by the configuration of the encoder, whose adapter may reduce their number."""
    kernels, strides = tuple(config.conv_kernel), tuple(config.conv_stride)
    if getattr(config, "add_adapter", False):
        kernels += (1,) * config.num_adapter_layers
        strides += (config.adapter_stride,) * config.num_adapter_layers
    return FrameCounter(kernels, strides)
