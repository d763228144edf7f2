"""The floor: an optimizer step of data2vec, written by hand for the same modules.

It has no hooks, no code for other encoders and no Trainer, so that it takes about the least time that is possible with
these modules: autocast, AdamW in one kernel, clipping and EMA over lists of tensors, nothing that the host waits for.
It supports only the three encoders of the benchmark, and batches without padding.

Shapes: B samples, M masks per sample, R = B * M rows, T content positions, L = prefix tokens + T, V visible
positions, C channels, N masked positions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, mse_loss, smooth_l1_loss

from modeling_data2vec_generic import Data2VecGenericConfig, Data2VecGenericForPreTraining

from .device import CPU, Device

NORM_EPS = 1e-5
MAX_GRAD_NORM = 1.0  # the Trainer's default
PREFIX = {"vit": 1, "roberta": 0, "data2vec-audio": 0}


@dataclass(frozen=True)
class Encoder:
    """How to run one type of encoder in parts. The first argument of each function is the encoder, or for `block` one
    of its blocks.

    Args:
        content: from the raw input to the embeddings (B, T, C) before positions are added.
        enter: from these to the input of the first block, (B, L, C).
        blocks: returns the blocks.
        block: runs one block on (R, L, C); returns its output and its feed-forward output, both (R, L, C).
        leave: what follows the last block, such as a normalisation.
        mixes: whether in `enter` the result at a position depends on its neighbours.
    """

    content: Callable[[Any, Tensor], Tensor]
    enter: Callable[[Any, Tensor], Tensor]
    blocks: Callable[[Any], nn.ModuleList]
    block: Callable[[Any, Tensor], tuple[Tensor, Tensor]]
    leave: Callable[[Any, Tensor], Tensor]
    mixes: bool = False


def _vit_enter(encoder: Any, content: Tensor) -> Tensor:
    cls = encoder.embeddings.cls_token.expand(len(content), -1, -1)
    return torch.cat((cls, content), 1) + encoder.embeddings.position_embeddings


def _vit_block(layer: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x + layer.attention(layer.layernorm_before(x))[0]
    ffn = layer.mlp(layer.layernorm_after(x))
    return x + ffn, ffn


def _roberta_block(layer: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    x = layer.attention(x)[0]
    ffn = layer.output.dense(layer.intermediate(x))
    return layer.output.LayerNorm(x + ffn), ffn


def _audio_content(encoder: Any, waveforms: Tensor) -> Tensor:
    return encoder.feature_projection(encoder.feature_extractor(waveforms).transpose(1, 2))[0]


def _audio_enter(encoder: Any, content: Tensor) -> Tensor:
    return encoder.encoder.layer_norm(content + encoder.encoder.pos_conv_embed(content))


def _audio_block(layer: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    x = layer.layer_norm(x + layer.attention(x)[0])
    ffn = layer.feed_forward(x)
    return layer.final_layer_norm(x + ffn), ffn


ENCODERS = {
    "vit": Encoder(
        content=lambda encoder, pixels: encoder.embeddings.patch_embeddings(pixels),
        enter=_vit_enter,
        blocks=lambda encoder: encoder.layers,
        block=_vit_block,
        leave=lambda encoder, x: encoder.layernorm(x),
    ),
    "roberta": Encoder(
        content=lambda encoder, ids: encoder.embeddings.word_embeddings(ids),
        enter=lambda encoder, content: encoder.embeddings(inputs_embeds=content),
        blocks=lambda encoder: encoder.encoder.layer,
        block=_roberta_block,
        leave=lambda encoder, x: x,
    ),
    "data2vec-audio": Encoder(
        content=_audio_content,
        enter=_audio_enter,
        blocks=lambda encoder: encoder.encoder.layers,
        block=_audio_block,
        leave=lambda encoder, x: x,
        mixes=True,
    ),
}


@dataclass(frozen=True)
class BareBatch:
    """A batch with what follows from its masks, computed by the host before the step, so that no step waits for it.

    Args:
        inputs: what the teacher reads.
        student_inputs: what the student reads; for text, the tokens with mask tokens.
        rows: (R, T) bool, True at masked positions.
        samples: (R), the sample of each row.
        masked: (N), masked positions among all R * T.
        target_rows: (N), where the targets of these are among all B * T.
        visible: (R, V), visible positions of each row; None where the student reads all.
    """

    inputs: Tensor
    student_inputs: Tensor
    rows: Tensor
    samples: Tensor
    masked: Tensor
    target_rows: Tensor
    visible: Tensor | None

    @classmethod
    def of(cls, batch: dict[str, Any], config: Data2VecGenericConfig, device: str) -> "BareBatch":
        """Takes what it needs from a batch of the library's collators, which is on the CPU, to a device."""
        inputs = next(batch[name] for name in ("pixel_values", "input_values", "input_ids") if name in batch)
        rows = batch["mask"].flatten(0, 1)
        length = rows.shape[1]
        samples = torch.arange(len(inputs)).repeat_interleave(len(rows) // len(inputs))
        masked = rows.flatten().nonzero().squeeze(1)
        visible = (~rows).nonzero()[:, 1].view(len(rows), -1) if config.student_input == "visible" else None
        made = cls(
            inputs=inputs,
            student_inputs=batch["student_input_ids"].flatten(0, 1) if "student_input_ids" in batch else inputs,
            rows=rows,
            samples=samples,
            masked=masked,
            target_rows=samples[masked // length] * length + masked % length,
            visible=visible,
        )
        return cls(**{name: None if value is None else value.to(device) for name, value in vars(made).items()})


class BareLoop:
    """Takes steps with the modules of a model of the library, but without its code around them.

    Args:
        model: its encoder, teacher, predictor and mask embedding are used, but not its forward.
        optimizer: for the model's parameters.
        decay: the decay of the teacher.
        device: where the model is, and the precision of its forward pass.
    """

    def __init__(
        self,
        model: Data2VecGenericForPreTraining,
        optimizer: torch.optim.Optimizer,
        decay: float,
        device: Device = CPU,
    ):
        self.config: Data2VecGenericConfig = model.config
        self.student, self.teacher, self.predictor = model.encoder, model.teacher, model.predictor
        self.mask_embedding = getattr(model, "mask_embedding", None)
        self.model_type = model.encoder.config.model_type
        self.parts = ENCODERS[self.model_type]
        self.prefix = PREFIX[self.model_type]
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer, self.decay, self.device = optimizer, decay, device
        self.averaged, self.copied = self._teacher_pairs(model)

    def step(self, batch: BareBatch) -> Tensor:
        """One optimizer step and one teacher update; returns the loss."""
        loss = self.loss(batch)
        loss.backward()
        nn.utils.clip_grad_norm_(self.trained, MAX_GRAD_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(*self.averaged, 1 - self.decay)
            if self.copied[0]:
                torch._foreach_copy_(*self.copied)
        return loss.detach()

    def loss(self, batch: BareBatch) -> Tensor:
        """The objective of the model's config."""
        with self.device.autocast():
            targets = self._targets(batch.inputs)
            if batch.visible is not None:
                encoded, content = self._visible_student(batch, batch.visible)
                grid = None
                if self.model_type == "vit":
                    side = round(batch.rows.shape[1] ** 0.5)
                    grid = (side, side)
                predictions = self.predictor(content, grid, selected=batch.masked)
            else:
                encoded = self._masked_student(batch)
                hidden = encoded[:, self.prefix :].flatten(0, 1)
                predictions = self.predictor(hidden.index_select(0, batch.masked))
            masked_targets = targets.flatten(0, 1).index_select(0, batch.target_rows)
            loss = self._regression(predictions, masked_targets) / len(batch.masked)
            if self.config.cls_loss_weight:  # every row has as many masked positions
                mean = targets.mean(1).index_select(0, batch.samples)
                total = self._regression(encoded[:, 0], mean)
                loss = loss + self.config.cls_loss_weight * total / len(batch.samples)
        return loss

    @torch.no_grad()
    def _targets(self, inputs: Tensor) -> Tensor:
        """The targets (B, T, C) in float32: the mean of the top K blocks, normalised as the config says."""
        blocks = self.parts.blocks(self.teacher)
        x = self.parts.enter(self.teacher, self.parts.content(self.teacher, inputs))
        layers = []
        for block in blocks:
            x, ffn = self.parts.block(block, x)
            layers.append(ffn if self.config.target_source == "ffn" else x)
        self.parts.leave(self.teacher, x)
        mean = torch.zeros((), device=x.device)
        for layer in layers[-self.config.average_top_k_layers :]:
            top = layer[:, self.prefix :].float()
            for norm in self.config.target_layer_norms:
                top = _normalised(top, norm)
            mean = mean + top
        mean = mean / self.config.average_top_k_layers
        for norm in self.config.target_final_norms:
            mean = _normalised(mean, norm)
        return mean

    def _masked_student(self, batch: BareBatch) -> Tensor:
        """The student's output for all positions, (R, L, C). Masked ones have the mask embedding, or mask tokens."""
        content = self.parts.content(self.student, batch.student_inputs)
        if self.mask_embedding is not None:
            content = torch.where(batch.rows.unsqueeze(-1), self.mask_embedding.to(content.dtype), content)
        return self._encode(self.parts.enter(self.student, content))

    def _visible_student(self, batch: BareBatch, visible: Tensor) -> tuple[Tensor, Tensor]:
        """The student's output for visible positions, (R, prefix + V, C), and the same with noise at all others, (R,
        T, C)."""
        content = self.parts.content(self.student, batch.inputs)
        samples = batch.samples
        if self.parts.mixes:  # masked positions must be removed before they reach their neighbours
            content = content.index_select(0, samples).masked_fill(batch.rows.unsqueeze(-1), 0.0)
            samples = torch.arange(len(samples), device=samples.device)
        x = self.parts.enter(self.student, content)
        prefix = torch.arange(self.prefix, device=x.device).expand(len(visible), -1)
        kept = torch.cat((prefix, visible + self.prefix), 1)
        flat = (samples.unsqueeze(1) * x.shape[1] + kept).flatten()
        x = self._encode(x.flatten(0, 1).index_select(0, flat).view(*kept.shape, -1))
        dense = x.new_zeros(*batch.rows.shape, x.shape[-1])
        dense = dense.scatter(1, visible.unsqueeze(-1).expand(-1, -1, x.shape[-1]), x[:, self.prefix :])
        noise = torch.randn(len(batch.masked), x.shape[-1], dtype=x.dtype, device=x.device)
        noise = noise * self.config.mask_noise_std
        return x, dense.flatten(0, 1).index_copy(0, batch.masked, noise).view(dense.shape)

    def _encode(self, x: Tensor) -> Tensor:
        for block in self.parts.blocks(self.student):
            x, _ = self.parts.block(block, x)
        return self.parts.leave(self.student, x)

    def _regression(self, predictions: Tensor, targets: Tensor) -> Tensor:
        predictions = predictions.float()
        if self.config.loss_beta:
            total = smooth_l1_loss(predictions, targets, reduction="sum", beta=self.config.loss_beta)
        else:
            total = mse_loss(predictions, targets, reduction="sum")
        scale = self.config.loss_scale
        return total * (predictions.shape[-1] ** -0.5 if scale is None else scale)

    def _teacher_pairs(self, model: Data2VecGenericForPreTraining) -> tuple[Any, Any]:
        """Two pairs of (tensors of the teacher, tensors of the student): those to average, and those to copy."""
        copy = self.config.teacher_embeddings == "copy"
        pairs: tuple[tuple[list[Tensor], list[Tensor]], ...] = (([], []), ([], []))
        teacher = dict(model.teacher.named_parameters())
        for name, parameter in model.encoder.named_parameters():
            embeds = name.startswith(("embeddings.", "feature_"))
            targets, sources = pairs[copy and embeds or not parameter.requires_grad]
            targets.append(teacher[name].detach())
            sources.append(parameter.detach())
        return pairs


def _normalised(x: Tensor, norm: str) -> Tensor:
    """Normalises (B, T, C), over C for "layer" and over T for "instance"."""
    if norm == "layer":
        return layer_norm(x, x.shape[-1:], eps=NORM_EPS)
    variance, mean = torch.var_mean(x, 1, correction=0, keepdim=True)
    return (x - mean) * torch.rsqrt(variance + NORM_EPS)
