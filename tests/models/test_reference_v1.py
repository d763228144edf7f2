"""data2vec against numbers of the papers' own implementation: targets, predictions, loss and every gradient."""

import pytest
import torch
from transformers import (
    Data2VecAudioConfig,
    Data2VecAudioModel,
    Data2VecTextConfig,
    Data2VecTextModel,
    Data2VecVisionConfig,
    Data2VecVisionModel,
)

from modeling_data2vec_generic import Data2VecGenericConfig, Data2VecGenericForPreTraining

from ..reference import (
    V1_AUDIO,
    V1_AUDIO_ENCODER,
    V1_TEXT,
    V1_VISION,
    V1_VISION_ENCODER,
    assert_matches,
    load,
    load_in_order,
    part,
    rename,
)

pytestmark = pytest.mark.fast

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
QKV = {"q": "query", "k": "key", "v": "value"}


def load_encoder(encoder: torch.nn.Module, weights: dict, missing: set[str]) -> None:
    """Load weights by name; exactly the parameters in `missing` may be absent."""
    absent = {name for name, _ in encoder.named_parameters()} - set(weights)
    assert absent == missing
    encoder.load_state_dict(weights, strict=False)


def assert_gradients_match(model: Data2VecGenericForPreTraining, gradients: dict) -> None:
    for name, expected in gradients.items():
        assert_matches(model.encoder.get_parameter(name).grad, expected, name)


def text_names(tensors: dict) -> dict:
    renamed = rename(tensors, V1_TEXT)
    return {".".join(QKV.get(word, word) for word in name.split(".")): tensor for name, tensor in renamed.items()}


@pytest.fixture
def text():
    settings, tensors = load("v1_text")
    encoder_config = Data2VecTextConfig(
        vocab_size=settings["vocab"],
        hidden_size=settings["embed"],
        num_hidden_layers=settings["layers"],
        num_attention_heads=settings["heads"],
        intermediate_size=settings["ffn"],
        max_position_embeddings=tensors["teacher/embed_positions.weight"].shape[0],
        layer_norm_eps=settings["eps"],
        pad_token_id=settings["pad"],
        type_vocab_size=1,
        **NO_DROPOUT,
    )
    config = Data2VecGenericConfig(
        encoder_config=encoder_config,
        average_top_k_layers=settings["top_k"],
        target_layer_norms=["layer"],
        predictor="mlp",
        loss_beta=settings["loss_beta"],
        loss_scale=settings["loss_scale"],
    )
    model = Data2VecGenericForPreTraining(config, encoder=Data2VecTextModel(encoder_config, add_pooling_layer=False))
    types = "embeddings.token_type_embeddings.weight"
    student = part(tensors, "student/")
    load_encoder(model.encoder, text_names(part(student, "encoder.sentence_encoder.")), {types})
    load_encoder(model.teacher, text_names(part(tensors, "teacher/")), {types})
    for encoder in (model.encoder, model.teacher):
        encoder.get_parameter(types).data.zero_()
    head = [student[f"encoder.regression_head.{i}.{kind}"] for i in (0, 2) for kind in ("weight", "bias")]
    load_in_order(model.predictor, head)
    return model, settings, tensors


def test_text_matches_reference(text):
    model, settings, tensors = text
    tokens, pad = tensors["target_tokens"], settings["pad"]
    mask = tensors["mask"].bool()
    output = model.train()(
        input_ids=tokens, attention_mask=tokens.ne(pad).long(), student_input_ids=tensors["src_tokens"], mask=mask
    )
    output.loss.backward()

    assert_matches(output.predictions, tensors["pred_masked"], "predictions")
    assert_matches(output.loss, torch.tensor(settings["loss_logged"]), "loss")
    assert int(output.num_masked) == settings["sample_size"]
    gradients = part(tensors, "grad/")
    assert_gradients_match(model, text_names(part(gradients, "encoder.sentence_encoder.")))
    first_linear = next(model.predictor.parameters())
    assert_matches(first_linear.grad, gradients["encoder.regression_head.0.weight"], "regression head")


def test_text_targets_match_independent_computation_from_reference_layers(text):
    model, settings, tensors = text
    tokens = tensors["target_tokens"]
    mask = tensors["mask"].bool()
    output = model(
        input_ids=tokens, attention_mask=tokens.ne(settings["pad"]).long(), student_input_ids=tokens, mask=mask
    )
    layers = tensors["teacher_layers"][-settings["top_k"] :]
    expected = torch.nn.functional.layer_norm(layers, layers.shape[-1:]).mean(0)[mask]
    assert_matches(output.targets, expected, "targets")


@pytest.fixture
def vision():
    settings, tensors = load("v1_vision")
    encoder_config = Data2VecVisionConfig(
        hidden_size=settings["embed"],
        num_hidden_layers=settings["depth"],
        num_attention_heads=settings["heads"],
        intermediate_size=4 * settings["embed"],
        image_size=settings["image"],
        patch_size=settings["patch"],
        layer_norm_eps=settings["eps"],
        layer_scale_init_value=settings["layer_scale"],
        use_shared_relative_position_bias=True,
        use_mask_token=True,
        use_mean_pooling=False,
        drop_path_rate=0.0,
        **NO_DROPOUT,
    )
    config = Data2VecGenericConfig(
        encoder_config=encoder_config,
        average_top_k_layers=settings["top_k"],
        target_source="block",
        target_layer_norms=[],
        target_final_norms=["layer"],
        predictor="linear",
        loss_beta=settings["loss_beta"],
        teacher_embeddings="copy",
    )
    model = Data2VecGenericForPreTraining(config, encoder=Data2VecVisionModel(encoder_config))
    student = rename(part(tensors, "student/"), V1_VISION)
    load_encoder(model.encoder, student, set())
    teacher = rename(part(tensors, "teacher/"), V1_VISION_ENCODER)
    embeddings = {name: weight for name, weight in student.items() if name.startswith("embeddings.")}
    load_encoder(model.teacher, teacher | embeddings, set())
    width = settings["embed"]
    load_in_order(model.predictor, [torch.eye(width), torch.zeros(width)])  # the reference has no head
    return model, settings, tensors


def test_vision_matches_reference(vision):
    model, settings, tensors = vision
    output = model.train()(pixel_values=tensors["img"], mask=tensors["mask"].flatten(1).bool())
    output.loss.backward()

    assert_matches(output.targets, tensors["target_masked"], "targets")
    assert_matches(output.predictions, tensors["pred_masked"], "predictions")
    assert_matches(output.loss, torch.tensor(settings["loss_logged"]), "loss")
    assert_gradients_match(model, rename(part(tensors, "grad/"), V1_VISION))


@pytest.fixture
def audio():
    settings, tensors = load("v1_audio")
    conv_dims, kernels, strides = (24, 24, 24), (10, 3, 3), (5, 2, 2)
    width, depth = settings["conv_pos"]["width"], settings["conv_pos"]["depth"]
    encoder_config = Data2VecAudioConfig(
        hidden_size=settings["embed"],
        num_hidden_layers=settings["layers"],
        num_attention_heads=settings["heads"],
        intermediate_size=settings["ffn"],
        conv_dim=conv_dims,
        conv_kernel=kernels,
        conv_stride=strides,
        conv_bias=False,
        conv_pos_kernel_size=max(3, width // depth),
        num_conv_pos_embeddings=depth,
        num_conv_pos_embedding_groups=settings["conv_pos"]["groups"],
        layer_norm_eps=settings["eps"],
        hidden_dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        feat_proj_dropout=0.0,
        layerdrop=0.0,
    )
    config = Data2VecGenericConfig(
        encoder_config=encoder_config,
        average_top_k_layers=settings["top_k"],
        target_layer_norms=["instance"],
        predictor="linear",
        loss_beta=settings["loss_beta"],
        teacher_embeddings="copy",
        ignore_padding=False,
    )
    model = Data2VecGenericForPreTraining(config, encoder=Data2VecAudioModel(encoder_config))
    student = part(tensors, "student/")
    load_encoder(model.encoder, rename(student, V1_AUDIO), set())
    teacher = rename(part(tensors, "teacher/"), V1_AUDIO_ENCODER)
    own = {name: weight for name, weight in rename(student, V1_AUDIO).items() if not name.startswith("encoder.")}
    load_encoder(model.teacher, teacher | own, set())
    load_in_order(model.predictor, [student["final_proj.weight"], student["final_proj.bias"]])
    return model, settings, tensors


def test_audio_matches_reference(audio):
    model, settings, tensors = audio
    output = model.train()(
        input_values=tensors["wav"], attention_mask=1 - tensors["padding_mask"].long(), mask=tensors["mask"].bool()
    )
    output.loss.backward()

    assert_matches(output.targets, tensors["target_masked"], "targets")
    assert_matches(output.predictions, tensors["pred_masked"], "predictions")
    assert_matches(output.loss, torch.tensor(settings["loss_logged"]), "loss")
    gradients = part(tensors, "grad/")
    assert gradients
    assert_gradients_match(model, rename(gradients, V1_AUDIO))


@pytest.mark.parametrize("ignore_padding", [True, False])
def test_audio_targets__of_ragged_sound_take_or_leave_padding(audio, ignore_padding):
    model, settings, tensors = audio
    model.config.ignore_padding = ignore_padding
    attention_mask = torch.ones_like(tensors["padding_mask"], dtype=torch.long)
    attention_mask[1, 400:] = 0
    mask = torch.zeros(2, 30, dtype=torch.bool)
    mask[:, 3:9] = True
    output = model(input_values=tensors["wav"], attention_mask=attention_mask, mask=mask)

    hidden: list[torch.Tensor] = []
    for layer in model.teacher.encoder.layers:
        layer.feed_forward.output_dense.register_forward_hook(lambda module, args, y: hidden.append(y))
    model.teacher(tensors["wav"], attention_mask=attention_mask)
    frames = [30, model.encoder._get_feat_extract_output_lengths(torch.tensor(400)).item() if ignore_padding else 30]
    rows = []
    for sample, count in enumerate(frames):
        layers = torch.stack([layer[sample] for layer in hidden[-settings["top_k"] :]])
        real = layers[:, :count]
        variance, mean = torch.var_mean(real, 1, correction=0, keepdim=True)
        rows.append(((layers - mean) / (variance + 1e-5).sqrt()).mean(0)[mask[sample]])
    assert_matches(output.targets, torch.cat(rows), "targets")
