"""data2vec 2.0 on the encoders it was published with: against numbers of the papers' own implementation, and where
there are none, against the formulas computed row by row.

The numbers come with the noise that the decoder drew, which takes the place of the model's own here.
"""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from modeling_data2vec_generic import Data2VecGenericConfig, Data2VecGenericForPreTraining
from modeling_data2vec_generic.data2vec2_encoders_data2vec_generic import (
    Data2Vec2AudioConfig,
    Data2Vec2AudioModel,
    Data2Vec2ImageEmbeddings,
    Data2Vec2TextConfig,
    Data2Vec2TextModel,
    Data2Vec2VisionConfig,
    Data2Vec2VisionModel,
)
from modeling_data2vec_generic.objective_data2vec_generic import spread

from ..plain_data2vec2 import Settings, data2vec2
from ..reference import RTOL, V2_BLOCKS, load, load_in_order, part, rename, v2_block

pytestmark = pytest.mark.fast

TEXT, IMAGE, AUDIO = (rf"modality_encoders\.{name}\." for name in ("TEXT", "IMAGE", "AUDIO"))
NAMES = {
    "v2_text": [
        *V2_BLOCKS,
        (rf"{TEXT}local_encoder\.embed_tokens", "embeddings.word_embeddings"),
        (rf"{TEXT}local_encoder\.embed_positions", "embeddings.position_embeddings"),
        (rf"{TEXT}local_encoder\.layernorm_embedding", "embeddings.LayerNorm"),
    ],
    "v2_image": [
        *V2_BLOCKS,
        *v2_block(rf"{IMAGE}context_encoder\.blocks\.", "prenet."),
        (rf"{IMAGE}context_encoder\.norm", "norm"),
        (rf"{IMAGE}local_encoder\.proj", "embeddings.patch_embeddings.projection"),
        (rf"{IMAGE}fixed_positional_encoder\.positions", "embeddings.positions"),
        (rf"{IMAGE}extra_tokens", "embeddings.extra_tokens"),
    ],
    "v2_audio": [
        *V2_BLOCKS,
        *v2_block(rf"{AUDIO}context_encoder\.blocks\.", "prenet."),
        (rf"{AUDIO}context_encoder\.norm", "norm"),
        (rf"{AUDIO}local_encoder\.conv_layers\.(\d+)\.0\.", r"feature_extractor.conv_layers.\1.conv."),
        (rf"{AUDIO}local_encoder\.conv_layers\.(\d+)\.2\.1\.", r"feature_extractor.conv_layers.\1.layer_norm."),
        (rf"{AUDIO}project_features\.1\.", "feature_projection.layer_norm."),
        (rf"{AUDIO}project_features\.2\.", "feature_projection.projection."),
        *(
            (rf"{AUDIO}relative_positional_encoder\.{j}\.0", f"positional_convolution.layers.{j - 1}.conv")
            for j in (1, 2, 3)
        ),
        (rf"{AUDIO}alibi_scale", "alibi_scale"),
    ],
}
DECODERS = {
    "v2_text": {"decoder_layers": 5, "decoder_kernel_size": 9, "decoder_groups": 1, "decoder_residual": False}
    | {"decoder_dim": 32, "decoder_projection_layers": 2},
    "v2_image": {"decoder_layers": 3, "decoder_kernel_size": 3, "decoder_groups": 4, "decoder_dim": 32},
    "v2_audio": {"decoder_layers": 4, "decoder_kernel_size": 7, "decoder_groups": 4, "decoder_dim": 16},
}
INPUTS = {"v2_text": "input_ids", "v2_image": "pixel_values", "v2_audio": "input_values"}


def encoder_of(name: str, settings: dict) -> PreTrainedModel:
    shape = {
        "hidden_size": settings["embed"],
        "num_hidden_layers": settings["depth"],
        "num_attention_heads": settings["heads"],
        "intermediate_size": 4 * settings["embed"],
        "prenet_depth": settings["prenet_depth"],
        "layer_norm_eps": settings["eps"],
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    if name == "v2_text":
        positions = settings["max_positions"] + settings["pad"] + 1
        return Data2Vec2TextModel(
            Data2Vec2TextConfig(
                vocab_size=settings["vocab"],
                pad_token_id=settings["pad"],
                max_position_embeddings=positions,
                type_vocab_size=1,
                **shape,
            )
        )
    if name == "v2_image":
        return Data2Vec2VisionModel(
            Data2Vec2VisionConfig(image_size=settings["image"], patch_size=settings["patch"], **shape)
        )
    convolution = settings["conv_pos"]
    return Data2Vec2AudioModel(
        Data2Vec2AudioConfig(
            conv_dim=(24, 24, 24),
            conv_kernel=(10, 3, 3),
            conv_stride=(5, 2, 2),
            conv_pos_kernel_size=max(3, convolution["width"] // convolution["depth"]),
            num_conv_pos_embeddings=convolution["depth"],
            num_conv_pos_embedding_groups=convolution["groups"],
            **shape,
        )
    )


@dataclass
class Case:
    """A model with the reference's weights, the weights under the reference's names, and the fixture."""

    name: str
    model: Data2VecGenericForPreTraining
    settings: dict
    tensors: dict[str, Tensor]
    student: dict[str, Tensor]
    teacher: dict[str, Tensor]

    def inputs(self) -> dict[str, Tensor]:
        return {INPUTS[self.name]: self.tensors["source"]}

    def decoder_names(self) -> list[str]:
        """The decoder's parameters in order of use: blocks.0.0, blocks.1.0, ..., proj or proj.0, proj.2."""
        config = self.model.config
        one = config.decoder_projection_layers == 1
        modules = [f"blocks.{i}.0" for i in range(config.decoder_layers)]
        modules += ["proj"] if one else [f"proj.{2 * i}" for i in range(config.decoder_projection_layers)]
        prefix = f"modality_encoders.{self.name.removeprefix('v2_').upper()}.decoder"
        return [f"{prefix}.{module}.{kind}" for module in modules for kind in ("weight", "bias")]

    def gradients(self) -> dict[str, Tensor]:
        """Of every trained weight of encoder and predictor; the predictor's under the reference's names."""
        own = {name: weight.grad for name, weight in self.model.encoder.named_parameters() if weight.requires_grad}
        decoder = zip(self.decoder_names(), self.model.predictor.parameters(), strict=True)
        return own | {name: weight.grad for name, weight in decoder}

    def renamed(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        decoder = {name: tensor for name, tensor in tensors.items() if ".decoder." in name}
        return rename(tensors, NAMES[self.name]) | decoder


def build(name: str, **changes) -> Case:
    """The reference's model; `changes` are fields of the config that differ from the reference's.

    A decoder of another shape than the reference's gets random weights.
    """
    settings, tensors = load(name)
    fields = {
        "student_input": "visible",
        "num_masks": settings["clone_batch"],
        "average_top_k_layers": settings["top_k"],
        "target_layer_norms": ["instance"],
        "target_final_norms": ["layer"] if "layer_norm_targets" in settings["flags"] else [],
        "predictor": "conv",
        "loss_beta": settings["loss_beta"],
        "loss_scale": settings["loss_scale"],
        # The reference's is the weight of a sum over the rows of its batch.
        "cls_loss_weight": settings.get("cls_loss", 0.0) * len(tensors["mask"]),
        "ignore_padding": False,
        "teacher_embeddings": "ema" if name == "v2_image" else "copy",
    }
    config = Data2VecGenericConfig(**fields | DECODERS[name] | changes)
    model = Data2VecGenericForPreTraining(config, encoder=encoder_of(name, settings)).train()
    student, teacher = part(tensors, "student/"), part(tensors, "teacher/")
    if name == "v2_text":  # its teacher is a bare list of blocks
        teacher = {f"blocks.{key}": weight for key, weight in teacher.items()}
    own = rename(student, NAMES[name])
    missing = {key for key, _ in model.encoder.named_parameters()} - set(own)
    assert missing <= {"embeddings.token_type_embeddings.weight"}
    model.encoder.load_state_dict(own, strict=False)
    model.teacher.load_state_dict(own | rename(teacher, NAMES[name]), strict=False)
    for key in missing:  # the reference has no types of tokens
        for encoder in (model.encoder, model.teacher):
            nn.init.zeros_(encoder.get_parameter(key)).requires_grad_(False)
    case = Case(name, model, settings, tensors, student, teacher)
    if any(field.startswith("decoder_") for field in changes):
        case.student = {key: weight for key, weight in student.items() if ".decoder." not in key}
        for key, weight in zip(case.decoder_names(), model.predictor.parameters(), strict=True):
            case.student[key] = weight.detach().clone()
    else:
        load_in_order(model.predictor, [student[key] for key in case.decoder_names()])
    return case


def assert_close(actual: Tensor, expected: Tensor, what: str) -> None:
    """Equal up to 1e-5 of the largest expected number; if that is zero up to rounding (key biases), nearly zero."""
    assert actual.shape == expected.shape, f"{what}: {tuple(actual.shape)} != {tuple(expected.shape)}"
    error, size = (actual.detach() - expected).abs().max().item(), expected.abs().max().item()
    assert error <= RTOL * size + 1e-9, f"{what}: off by {error}, where the largest number is {size}"


def give_noise(monkeypatch: pytest.MonkeyPatch, model: Data2VecGenericForPreTraining, noise: Tensor) -> None:
    """Let the decoder's input hold these rows at masked places, in row-major order."""

    def recorded(like: Tensor, count: int) -> Tensor:
        assert count == len(noise)
        return noise

    monkeypatch.setattr(model, "mask_noise", recorded)


@pytest.mark.parametrize("name", ["v2_text", "v2_image", "v2_audio"])
def test_matches_reference(name, monkeypatch):
    case = build(name)
    settings, tensors = case.settings, case.tensors
    mask = tensors["mask"].bool()
    # Kept positions come first in the reference's order, so what is behind them is a masked position's row of noise.
    noise_row = tensors["ids_restore"] - tensors["ids_keep"].shape[1]
    noise = torch.cat([tensors["noise"][row, noise_row[row][mask[row]]] for row in range(len(mask))])
    give_noise(monkeypatch, case.model, noise)
    decoder: list[tuple] = []
    case.model.predictor.register_forward_hook(lambda module, args, output: decoder.append(args))

    output = case.model(mask=mask.unflatten(0, (-1, settings["clone_batch"])), **case.inputs())
    output.loss.backward()

    dense, grid, real, _ = decoder[0]
    assert_close(dense, tensors["decoder_input_dense"], "decoder input")
    assert_close(case.model.predictor(dense, grid, real), tensors["decoder_output_dense"], "decoder output")
    assert_close(output.predictions, tensors["pred_masked"], "predictions")
    assert_close(output.targets, tensors["target_masked"], "targets")
    assert output.loss.item() == pytest.approx(settings["loss_logged"], rel=1e-5)
    assert int(output.num_masked) == settings["sample_size"]
    assert spread(output.predictions).item() == pytest.approx(settings["pred_var"], rel=1e-5)
    assert spread(output.targets).item() == pytest.approx(settings["target_var"], rel=1e-5)
    expected = case.renamed(part(tensors, "grad/"))
    gradients = case.gradients()
    assert len(expected) >= len(part(tensors, "grad/"))
    for key, gradient in expected.items():
        assert_close(gradients[key], gradient, key)


def positions(rows: int, columns: int, width: int) -> Tensor:
    """(1, rows * columns, width)."""
    sizes = {"image_size": (4 * rows, 4 * columns), "patch_size": 4, "hidden_size": width, "num_attention_heads": 1}
    return Data2Vec2ImageEmbeddings(Data2Vec2VisionConfig(**sizes)).positions


def test_positions_of_images_match_reference():
    _, tensors = load("v2_image")
    expected = tensors["student/modality_encoders.IMAGE.fixed_positional_encoder.positions"]
    assert_close(positions(6, 6, 32), expected, "positions")


def test_positions_of_images__put_the_column_first():
    table = positions(2, 3, 8)[0].view(2, 3, 8)
    assert torch.equal(table[0, :, :4], table[1, :, :4])
    assert torch.equal(table[:, 0, 4:], table[:, 2, 4:])
    assert table[0, 2, :4].tolist() == pytest.approx([0.909297, 0.019999, -0.416147, 0.9998], abs=1e-5)


@pytest.mark.parametrize(
    ("name", "copied"),
    [
        ("v2_text", ("embeddings.",)),
        ("v2_image", ()),
        ("v2_audio", ("feature_extractor.", "feature_projection.")),
    ],
)
def test_teacher__copies_what_the_published_one_takes_from_the_student(name, copied):
    case = build(name)
    mask = case.tensors["mask"].bool().unflatten(0, (-1, 2))
    case.model(mask=mask, **case.inputs())
    names = {key for key, _ in case.model.encoder.named_parameters()}
    assert case.model.copied_parameters() == {key for key in names if key.startswith(copied)}


def random_mask(shape: tuple[int, int, int], masked: int) -> Tensor:
    """(B, M, T) bool with the same number of masked positions in every row."""
    return torch.rand(shape).argsort(-1) < masked


def plain_settings(case: Case) -> Settings:
    config, settings = case.model.config, case.settings
    return Settings(
        modality=case.name.removeprefix("v2_").upper(),
        depth=settings["depth"],
        prenet_depth=settings["prenet_depth"],
        heads=settings["heads"],
        eps=settings["eps"],
        top_k=config.average_top_k_layers or settings["depth"],
        target_source=config.target_source,
        layer_norms=tuple(config.target_layer_norms),
        final_norms=tuple(config.target_final_norms),
        beta=config.loss_beta,
        scale=config.loss_scale,
        cls_loss=config.cls_loss_weight,
        groups=config.decoder_groups,
        residual=config.decoder_residual,
        ignore_padding=config.ignore_padding,
        grid=(6, 6) if case.name == "v2_image" else None,
    )


def assert_equals_formulas(
    case: Case, mask: Tensor, monkeypatch: pytest.MonkeyPatch, padding: Tensor | None = None, **masks: Tensor
) -> None:
    """Predictions, targets, loss and the gradient of every trained weight."""
    noise = torch.randn(int(mask.sum()), case.settings["embed"])
    give_noise(monkeypatch, case.model, noise)
    output = case.model(mask=mask, **case.inputs(), **masks)
    output.loss.backward()

    buffers = "fixed_positional_encoder.positions"
    student = {key: weight.clone().requires_grad_(not key.endswith(buffers)) for key, weight in case.student.items()}
    none = torch.zeros(len(mask), mask.shape[-1], dtype=torch.bool)
    predictions, targets, loss = data2vec2(
        case.tensors["source"],
        mask,
        none if padding is None else padding,
        noise,
        student,
        case.teacher,
        plain_settings(case),
    )
    loss.backward()
    assert_close(output.predictions, predictions.detach(), "predictions")
    assert_close(output.targets, targets, "targets")
    assert output.loss.item() == pytest.approx(loss.item(), rel=1e-5)
    expected = case.renamed({key: weight.grad for key, weight in student.items() if weight.grad is not None})
    gradients = case.gradients()
    assert set(gradients) == set(expected)
    for key, gradient in expected.items():
        assert_close(gradients[key], gradient, key)


@pytest.mark.parametrize("name", ["v2_text", "v2_image", "v2_audio"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loss_beta": 0.5, "loss_scale": 0.25},
        {"num_masks": 3},
        {"num_masks": 1},
        {"target_source": "block"},
        {"average_top_k_layers": None, "target_final_norms": ["instance", "layer"], "target_layer_norms": ["layer"]},
        {"decoder_kernel_size": 4, "decoder_residual": True, "decoder_dim": 32},
        {"decoder_kernel_size": 2, "decoder_residual": False, "decoder_projection_layers": 2, "decoder_dim": 24},
    ],
    ids=str,
)
def test_equals_the_formulas(name, changes, monkeypatch):
    torch.manual_seed(0)
    case = build(name, **changes)
    length = case.tensors["mask"].shape[1]
    mask = random_mask((2, case.model.config.num_masks, length), 2 * length // 3)
    assert_equals_formulas(case, mask, monkeypatch)


@pytest.mark.parametrize("num_masks", [1, 3])
@pytest.mark.parametrize("loss", [{}, {"loss_beta": 0.5, "loss_scale": 0.25}, {"target_source": "block"}], ids=str)
def test_cls_loss_equals_the_formula(num_masks, loss, monkeypatch):
    torch.manual_seed(1)
    case = build("v2_image", cls_loss_weight=0.7, num_masks=num_masks, **loss)
    assert_equals_formulas(case, random_mask((2, num_masks, 36), 27), monkeypatch)


def test_cls_loss__is_the_weight_times_the_mean_over_rows():
    """By the reference's own numbers: its sum over rows is what is left of its loss without the regression."""
    case = build("v2_image", mask_noise_std=0.0)
    mask = case.tensors["mask"].bool().unflatten(0, (-1, case.settings["clone_batch"]))
    rows = len(case.tensors["mask"])
    reference = case.settings["cls_loss"] * rows
    assert case.model.config.cls_loss_weight == pytest.approx(reference)
    terms = {}
    for samples in ([0], [1], [0, 1], [0, 1, 0, 1], [0] * 4):
        case.model.config.cls_loss_weight = 0.0
        without = case.model(mask=mask[samples], pixel_values=case.tensors["source"][samples]).loss
        case.model.config.cls_loss_weight = reference
        loss = case.model(mask=mask[samples], pixel_values=case.tensors["source"][samples]).loss
        terms[tuple(samples)] = (loss - without).item()
    assert terms[0, 1] == pytest.approx((terms[0,] + terms[1,]) / 2, rel=1e-4)
    assert terms[0, 1, 0, 1] == pytest.approx(terms[0, 1], rel=1e-4)
    assert terms[0, 0, 0, 0] == pytest.approx(terms[0,], rel=1e-4)
    assert abs(terms[0,] - terms[1,]) > 1e-3 * terms[0,]


def test_alibi__of_a_negative_scale_is_off(monkeypatch):
    torch.manual_seed(2)
    case = build("v2_audio")
    name = "modality_encoders.AUDIO.alibi_scale"
    for weights, encoder in ((case.student, case.model.encoder), (case.teacher, case.model.teacher)):
        weights[name] = weights[name].clone()
        weights[name][:, :, 1] = -0.5
        encoder.alibi_scale.data.copy_(weights[name])
    assert_equals_formulas(case, random_mask((2, 2, 30), 15), monkeypatch)


def equal_masks_of_ragged_rows(case: Case, num_masks: int, lengths: list[int], ignored: bool) -> Tensor:
    """A mask of half of the positions; with `ignored`, only of those that are not padding."""
    length = case.tensors["mask"].shape[1]
    mask = torch.zeros(len(lengths), num_masks, length, dtype=torch.bool)
    for sample, real in enumerate(lengths if ignored else [length] * len(lengths)):
        mask[sample, :, :real] = random_mask((1, num_masks, real), real // 2)
    return mask


@pytest.mark.parametrize("ignore_padding", [False, True])
@pytest.mark.parametrize("num_masks", [1, 3])
@pytest.mark.parametrize("norms", [{}, {"target_final_norms": ["instance", "layer"]}], ids=str)
def test_padded_sound_equals_the_formulas(ignore_padding, num_masks, norms, monkeypatch):
    torch.manual_seed(3)
    case = build("v2_audio", ignore_padding=ignore_padding, num_masks=num_masks, **norms)
    samples = torch.tensor([[630], [400]])
    frames = ((samples - 10) // 5 + 1 - 3) // 2 + 1
    frames = (frames - 3) // 2 + 1
    attention_mask = (torch.arange(630) < samples).long()
    padding = torch.arange(30) >= frames
    mask = equal_masks_of_ragged_rows(case, num_masks, frames.flatten().tolist(), ignore_padding)
    assert ignore_padding or bool((mask & padding.unsqueeze(1)).any())  # as published, masks may fall on padding
    assert_equals_formulas(case, mask, monkeypatch, padding, attention_mask=attention_mask)


@pytest.mark.parametrize("ignore_padding", [False, True])
@pytest.mark.parametrize("num_masks", [1, 3])
def test_ragged_text_equals_the_formulas(ignore_padding, num_masks, monkeypatch):
    torch.manual_seed(4)
    case = build("v2_text", ignore_padding=ignore_padding, num_masks=num_masks)
    tokens = case.tensors["source"].clone()
    tokens[1, 10:] = case.settings["pad"]
    case.tensors["source"] = tokens
    padding = tokens.eq(case.settings["pad"])
    mask = equal_masks_of_ragged_rows(case, num_masks, [16, 10], ignore_padding)
    assert_equals_formulas(case, mask, monkeypatch, padding, attention_mask=(~padding).long())


def test_noise_has_the_deviation_that_is_set():
    case = build("v2_text", mask_noise_std=0.3)
    torch.manual_seed(5)
    noise = case.model.mask_noise(torch.empty(1, 32), 4000)
    assert noise.shape == (4000, 32)
    assert noise.std().item() == pytest.approx(0.3, rel=0.02)
    assert abs(noise.mean().item()) < 0.01


def test_loss__of_parts_divided_by_a_common_count_adds_up_to_the_whole():
    case = build("v2_image", cls_loss_weight=0.7, mask_noise_std=0.0)
    torch.manual_seed(6)
    images, mask = case.tensors["source"], random_mask((2, 2, 36), 27)
    whole = case.model(pixel_values=images, mask=mask).loss
    parts = [
        case.model(pixel_values=images[[i]], mask=mask[[i]], num_items_in_batch=int(mask.sum())).loss for i in (0, 1)
    ]
    assert sum(parts).item() == pytest.approx(whole.item(), rel=1e-5)
