"""Gradient accumulation: k micro-batches of n samples are one batch of k * n, in loss, gradients and teacher."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packaging.version import Version
from transformers import TrainerCallback, Wav2Vec2FeatureExtractor, set_seed

from modeling_data2vec_generic import (
    Data2VecGenericConfig,
    Data2VecGenericForPreTraining,
    Data2VecTrainer,
    Data2VecTrainingArguments,
    DataCollatorForData2VecSpeech,
    DataCollatorForData2VecText,
    MaskSampler,
)
from modeling_data2vec_generic.modalities.text.tokenizer import train_tokenizer
from modeling_data2vec_generic.versions import CHECKPOINTING_NAMES, TRANSFORMERS

from ..tiny import sentences, tiny_encoder

SAMPLES = 16
VOCABULARY = 300
# No noise in the decoder: it is drawn anew for each batch.
DATA2VEC2: dict[str, Any] = {"student_input": "visible", "num_masks": 2, "predictor": "conv", "mask_noise_std": 0.0}
DATA2VEC2 |= {"decoder_dim": 16, "decoder_layers": 2, "decoder_groups": 2, "target_layer_norms": ["instance"]}


def text(settings: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Lines of 4 to 12 words and more tokens: encoder, samples, collator."""
    tokenizer = train_tokenizer(sentences(40), VOCABULARY)
    encoded = tokenizer(sentences(SAMPLES), return_special_tokens_mask=True)
    lines = [
        {"input_ids": ids, "special_tokens_mask": special, "sample_index": i}
        for i, (ids, special) in enumerate(zip(encoded["input_ids"], encoded["special_tokens_mask"], strict=True))
    ]
    visible = settings.get("student_input") == "visible"
    collator = DataCollatorForData2VecText(
        tokenizer, MaskSampler("random", 0.4), settings.get("num_masks", 1), student_tokens=not visible
    )
    return tiny_encoder("bert", vocab_size=VOCABULARY), lines, collator


def speech(settings: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Clips of 3,000 to 6,000 samples, 8 to 18 frames. Group norm over time, as wav2vec2-base has it, would see the
    padding: what the encoder gives would depend on the batch."""
    encoder = tiny_encoder("wav2vec2", feat_extract_norm="layer")
    rng = np.random.default_rng(0)
    clips = [
        {"audio": rng.normal(size=3000 + 1000 * (i % 4)).astype(np.float32), "sample_index": i} for i in range(SAMPLES)
    ]

    def num_frames(samples: int) -> int:
        return int(encoder._get_feat_extract_output_lengths(samples))

    visible = settings.get("student_input") == "visible"  # there rows of one length must have as many masked frames
    mask = MaskSampler("random", 0.5) if visible else MaskSampler("span", 0.5, 2)
    collator = DataCollatorForData2VecSpeech(
        Wav2Vec2FeatureExtractor(), num_frames, mask, settings.get("num_masks", 1)
    )
    return encoder, clips, collator


def images(settings: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Masks of 5, 6, 7 or 8 of 16 patches; of 8 for a student of visible patches, which has no padding to fill up."""
    generator = torch.Generator().manual_seed(0)
    counts = [8] * 4 if settings.get("student_input") == "visible" else [5, 6, 7, 8]
    samples = [
        {
            "pixel_values": torch.randn(3, 16, 16, generator=generator),
            "mask": torch.rand(settings.get("num_masks", 1), 16, generator=generator).argsort(-1) < counts[i % 4],
        }
        for i in range(SAMPLES)
    ]
    return tiny_encoder("vit"), samples, torch.utils.data.default_collate


class Steps(TrainerCallback):
    """The gradients before, and student and teacher after each optimizer step."""

    def __init__(self) -> None:
        self.gradients: list[dict[str, torch.Tensor]] = []
        self.weights: list[dict[str, torch.Tensor]] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        found = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
        self.gradients.append({name: grad.clone() for name, grad in found.items()})

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.weights.append({name: tensor.clone() for name, tensor in model.state_dict().items()})


def train(
    output_dir: Path, source: Callable, settings: dict[str, Any], **flags: Any
) -> tuple[Steps, list[dict[str, Any]], Any]:
    set_seed(0)
    encoder, samples, collator = source(settings)
    model = Data2VecGenericForPreTraining(Data2VecGenericConfig(**settings), encoder)
    defaults = {"learning_rate": 0.1, "optim": "sgd", "lr_scheduler_type": "constant", "num_train_epochs": 1}
    defaults |= {"max_grad_norm": 0.0, "logging_steps": 1, "save_strategy": "no", "report_to": "none"}
    defaults |= {"ema_decay": 0.5, "ema_end_decay": 0.9, "disable_tqdm": True, "use_cpu": True}
    arguments = Data2VecTrainingArguments(output_dir=str(output_dir), **defaults | flags)
    steps = Steps()
    trainer = Data2VecTrainer(
        model=model, args=arguments, train_dataset=samples, data_collator=collator, callbacks=[steps]
    )
    trainer.train()
    return steps, [entry for entry in trainer.state.log_history if "loss" in entry], trainer


def assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """To 1e-5 of the largest element of each tensor, or of 1."""
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        scale = max(1.0, other[name].abs().max().item())
        assert (tensor - other[name]).abs().max().item() <= 1e-5 * scale, name


CHECKPOINTING = {CHECKPOINTING_NAMES[0]: True}


@pytest.mark.parametrize(
    ("source", "settings", "flags"),
    [
        (text, {"predictor": "mlp", "target_layer_norms": ["layer"], "teacher_embeddings": "copy"}, {}),
        (text, DATA2VEC2 | {"teacher_embeddings": "copy"}, {}),
        (text, DATA2VEC2, CHECKPOINTING),
        (speech, {"target_layer_norms": ["instance"]}, CHECKPOINTING),
        (speech, DATA2VEC2, {}),
        (images, {"target_final_norms": ["layer"], "cls_loss_weight": 0.5}, {}),
        (images, DATA2VEC2 | {"target_final_norms": ["layer"], "cls_loss_weight": 0.5}, CHECKPOINTING),
    ],
)
def test_micro_batches__are_one_batch(source, settings, flags, tmp_path):
    if flags and settings.get("student_input") == "visible" and TRANSFORMERS < Version("5.23"):
        pytest.skip("refused, see versions.py")
    batches, log, _ = train(tmp_path, source, settings, per_device_train_batch_size=6)
    # 3 + 3 + 2 micro-batches: the last group of the epoch is shorter.
    small = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3} | flags
    micro, micro_log, trainer = train(tmp_path, source, settings, **small)
    assert getattr(trainer.model, f"is_{CHECKPOINTING_NAMES[0]}") == bool(flags)
    assert len(micro.weights) == len(batches.weights) == trainer.teacher_updates == 3
    for mine, expected in zip(micro.gradients, batches.gradients, strict=True):
        assert_close(mine, expected)
    for mine, expected in zip(micro.weights, batches.weights, strict=True):
        assert_close(mine, expected)
    for key in ("loss", "grad_norm", "ema_decay"):
        assert [entry[key] for entry in micro_log] == pytest.approx([entry[key] for entry in log], rel=1e-5), key
