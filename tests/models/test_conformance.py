"""What every encoder of the table must do: one test per requirement, one row per type."""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModel

from modeling_data2vec_generic import Data2VecGenericConfig, Data2VecGenericForPreTraining
from modeling_data2vec_generic.backbone_data2vec_generic import hooked, recorded_layers
from modeling_data2vec_generic.float32_copy_data2vec_generic import float32_copy
from modeling_data2vec_generic.layout_data2vec_generic import UnsupportedBackboneError
from modeling_data2vec_generic.measurements_data2vec_generic import measure, visible_only_fault
from modeling_data2vec_generic.training.encoders import save_encoder
from modeling_data2vec_generic.training.teacher import EMATeacher
from modeling_data2vec_generic.versions import CHECKPOINTING_NAMES

from ..copies import copy_of
from ..tiny_encoders import PADDED, REASONS, SAMPLES, STAGES, TINY, VISIBLE, Tiny

STUDENTS = [(name, "mask_token") for name in TINY] + [(name, "visible") for name in VISIBLE]
PADDED_STUDENTS = [(name, student_input) for name, student_input in STUDENTS if name in PADDED]
SHORT = 9


# By type and settings: a model, its buffers, and the state of torch's random numbers after it was built. Most of the
# time that a model takes goes into measuring its encoder, which finds the same each time.
_MODELS: dict[tuple, tuple[Data2VecGenericForPreTraining, list[dict], Tensor]] = {}


def shared_model_of(tiny: Tiny, student_input: str = "mask_token") -> Data2VecGenericForPreTraining:
    """A model in training mode, which computes the same as in evaluation mode because there is no dropout.

    It is for tests that change nothing about it. The decoder's input holds no noise, so that it is the student's
    output and nothing else.
    """
    key = repr(tiny), student_input
    if key not in _MODELS:
        model = new_model(tiny, student_input)
        _MODELS[key] = model, [copy.deepcopy(module._buffers) for module in model.modules()], torch.get_rng_state()
    model, buffers, rng_state = _MODELS[key]
    for module, own in zip(model.modules(), buffers, strict=True):  # a pass in training mode changes statistics
        module._buffers.update(copy.deepcopy(own))
    torch.set_rng_state(rng_state)
    return model


def model_of(tiny: Tiny, student_input: str = "mask_token") -> Data2VecGenericForPreTraining:
    """A copy of the shared model, which the caller may change."""
    return copy_of(shared_model_of(tiny, student_input))


def new_model(tiny: Tiny, student_input: str, attention: str | None = None) -> Data2VecGenericForPreTraining:
    torch.manual_seed(0)
    config = Data2VecGenericConfig(
        student_input=student_input,
        target_source="ffn" if tiny.feed_forward else "block",
        predictor="conv",
        decoder_dim=32,
        decoder_layers=2,
        decoder_kernel_size=3,
        decoder_groups=4,
        mask_noise_std=0.0,
    )
    options = {} if attention is None else {"attn_implementation": attention}
    return Data2VecGenericForPreTraining(config, encoder=tiny.encoder(**options)).train()


def random_masks(num_masks: int, lengths: list[int], total: int) -> Tensor:
    """(B, M, T) bool: a random span of half of each sample's positions, and one more position."""
    mask = torch.zeros(len(lengths), num_masks, total, dtype=torch.bool)
    for sample, length in enumerate(lengths):
        for row in mask[sample]:
            start = int(torch.randint(max(length // 2, 1), ()))
            row[start : start + length // 2] = True
            free = (~row[:length]).nonzero().flatten()
            if len(free) > 1:
                row[free[torch.randint(len(free), ())]] = True
    return mask


def masks_of(tiny: Tiny, num_masks: int = 2) -> Tensor:
    return random_masks(num_masks, [tiny.length] * SAMPLES, tiny.length)


class Student:
    """Runs a model and keeps what its predictor was given, which is the student's output."""

    def __init__(self, model: Data2VecGenericForPreTraining):
        self.model = model
        self.content = torch.empty(0)

    def __call__(self, mask: Tensor, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Content (B, M, T, C), zero where the student has none, predictions (N, C) and targets (N, C)."""
        torch.manual_seed(1)  # Informer's attention draws some of its keys at random
        keep = lambda module, args: setattr(self, "content", args[0])  # noqa: E731
        with torch.no_grad(), hooked(self.model.predictor.register_forward_pre_hook, keep):
            output = self.model(mask=mask, **inputs)
        return self.content.reshape(*mask.shape, -1), output.predictions, output.targets


# --- blocks, content, positions


@pytest.mark.parametrize("name", TINY)
def test_blocks__are_all_that_run_and_of_one_width(name):
    tiny = TINY[name]
    model = shared_model_of(tiny)
    depth = 3
    assert model.measurements.num_layers == depth
    with recorded_layers(model.teacher, model.layout, "block") as layers, torch.no_grad():
        model.teacher(**tiny.inputs() | _extra(model, tiny))
    assert len(layers) == depth
    assert all(layer.shape == (SAMPLES, *layers[0].shape[1:]) for layer in layers)
    assert layers[0].shape[2] == model.layout.width
    assert layers[0].shape[1] >= tiny.prefix + tiny.length


def _extra(model: Data2VecGenericForPreTraining, tiny: Tiny) -> dict:
    """The inputs that the quirks add, written out: ViTMAE's patches in order, and no predictor for V-JEPA 2."""
    model_type = model.encoder.config.model_type
    if model_type == "vit_mae":
        return {"noise": torch.arange(tiny.length).float().expand(SAMPLES, -1)}
    return {"skip_predictor": True} if model_type == "vjepa2" else {}


@pytest.mark.parametrize("name", TINY)
def test_masked_content__is_invisible_if_everything_is_masked(name):
    tiny = TINY[name]
    student = Student(shared_model_of(tiny))
    mask = torch.ones(SAMPLES, 2, tiny.length, dtype=torch.bool)
    one, predictions, targets = student(mask, tiny.inputs())
    other, other_predictions, other_targets = student(mask, tiny.inputs())
    assert torch.equal(one, other)
    assert torch.equal(predictions, other_predictions)
    assert not torch.equal(targets, other_targets)


# In training mode, batch norm and delays chosen for a whole batch let rows, and so masks of a sample, see each other.
ROWS_MEET = {"autoformer", "lasr_encoder", "parakeet_encoder", "patchtst", "wav2vec2-conformer"}
# Group norm over all samples of a clip comes before the frames.
HIDES_NOTHING = {"moonshine"}


@pytest.mark.parametrize(("name", "student_input"), [pair for pair in STUDENTS if pair[0] not in HIDES_NOTHING])
def test_masked_content__does_not_leak(name, student_input):
    tiny = TINY[name]
    model = shared_model_of(tiny, student_input)
    student = Student(model)
    inputs, mask = tiny.inputs(), masks_of(tiny, 1 if name in ROWS_MEET else 2)
    before, predictions, targets = student(mask, inputs)
    for m in range(mask.shape[1]):
        scrambled = tiny.scramble(model.encoder, model.layout.content, inputs, mask[:, m])
        after, new_predictions, new_targets = student(mask, scrambled)
        assert torch.equal(after[:, m], before[:, m])
        rows = mask.nonzero()[:, 1] == m
        assert torch.equal(new_predictions[rows], predictions[rows])
        assert not torch.equal(new_targets, targets)  # the teacher does see it
    shown = tiny.scramble(model.encoder, model.layout.content, inputs, ~mask[:, 0])
    assert not torch.equal(student(mask, shown)[0][:, 0], before[:, 0])


@pytest.mark.parametrize("name", TINY)
def test_positions__survive_masking(name):
    """One position is visible, because relative places need one; the predictions at masked positions differ."""
    tiny = TINY[name]
    mask = torch.ones(SAMPLES, 1, tiny.length, dtype=torch.bool)
    mask[..., 0] = False
    content, *_ = Student(shared_model_of(tiny))(mask, tiny.inputs())
    masked = content[:, :, 1:]
    assert (masked - masked[:, :, :1]).abs().amax((0, 1, 3))[1:].min() > 1e-4


@pytest.mark.parametrize("name", TINY)
def test_prefix__is_right_in_number_and_place(name):
    tiny = TINY[name]
    model = model_of(tiny)
    assert model.measurements.prefix == tiny.prefix
    assert model.measurements.mixes_neighbours is tiny.premixes
    if tiny.visible == STAGES:
        return
    position, reached, called = tiny.length // 2 * tiny.stride, [], []

    def change(module: nn.Module, args, output):
        called.append(module)
        if len(called) > 1:  # LED embeds its padding separately
            return output
        content = (output if isinstance(output, Tensor) else output[0]).clone()
        flat = content.flatten(2) if isinstance(module, CHANNELS_FIRST) else content.flatten(1, -2).transpose(1, 2)
        assert flat.shape[2] >= tiny.length
        flat[:, :, position] += 1.0
        if not isinstance(module, CHANNELS_FIRST):
            flat = flat.transpose(1, 2)
        content = flat.reshape(content.shape)
        return content if isinstance(output, Tensor) else (content, *output[1:])

    block = model.teacher.get_submodule(model.layout.stacks[0])
    block.register_forward_pre_hook(
        lambda module, args, kwargs: reached.append(args[0] if args else next(iter(kwargs.values()))), with_kwargs=True
    )
    runs, inputs = [], tiny.inputs() | _extra(model, tiny)
    for hook in (None, change):
        if hook is not None:
            model.teacher.get_submodule(model.layout.content).register_forward_hook(hook)
        reached.clear()
        with torch.no_grad():
            model.teacher(**inputs)
        runs.append(reached[0].flatten(2).transpose(1, 2) if name == "vitdet" else reached[0].flatten(1, -2))
    changed = (runs[0] != runs[1]).any(-1)[0].nonzero().flatten().tolist()
    assert tiny.prefix + tiny.length // 2 in changed
    assert len(changed) == 1 or tiny.premixes


CHANNELS_FIRST = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


# --- visible positions only


def attention_that_hides(keys: Tensor, counts: list[int]) -> dict[str, Callable[..., Tensor]]:
    """Softmax and attention that hide these keys, (R, L) bool, True = hidden, from all queries; counts the calls."""
    softmax, attend = torch.softmax, nn.functional.scaled_dot_product_attention

    def bias(shape: tuple[int, ...]) -> Tensor:
        rows = keys.repeat_interleave(shape[0] // len(keys), 0)
        hidden = torch.zeros(rows.shape).masked_fill(rows, -math.inf)
        return hidden.view(len(rows), *[1] * (len(shape) - 2), -1)

    def hiding_softmax(scores: Tensor, dim: int | None = None, *args, **options) -> Tensor:
        if scores.shape[-1] == keys.shape[1] and scores.ndim >= 3 and scores.shape[0] % len(keys) == 0:
            counts.append(1)
            scores = scores + bias(scores.shape)
        return softmax(scores, -1 if dim is None else dim, dtype=options.get("dtype"))

    def hiding_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *args, **options):
        counts.append(1)
        mask = bias(query.shape)
        if attn_mask is not None:
            added = (
                torch.zeros(attn_mask.shape).masked_fill(~attn_mask, -math.inf)
                if attn_mask.dtype == torch.bool
                else attn_mask
            )
            mask = mask + added
        return attend(query, key, value, mask, *args, **options)

    return {"softmax": hiding_softmax, "scaled_dot_product_attention": hiding_attention}


@contextmanager
def hidden_keys(keys: Tensor, counts: list[int]) -> Iterator[None]:
    patches = attention_that_hides(keys, counts)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(nn.functional, "scaled_dot_product_attention", patches["scaled_dot_product_attention"])
        patched.setattr(nn.functional, "softmax", patches["softmax"])
        patched.setattr(torch, "softmax", patches["softmax"])
        patched.setattr(torch.Tensor, "softmax", patches["softmax"])
        yield


def full_length_run(model, tiny: Tiny, inputs: dict[str, Tensor], mask: Tensor, counts: list[int]) -> Tensor:
    """(R, L, C): the plain encoder on whole sequences, each M times, with masked keys hidden from attention.

    Where something mixes neighbours before the blocks, it sees zeros at masked positions.
    """
    rows = mask.flatten(0, 1)
    given = inputs | _extra(model, tiny)
    repeated = {
        name: value.repeat_interleave(mask.shape[1], 0) if isinstance(value, Tensor) else value
        for name, value in given.items()
    }
    handles = []
    if tiny.premixes:

        def clear(module: nn.Module, args, output):
            content = output if isinstance(output, Tensor) else output[0]
            content = content.masked_fill(tiny.below(rows, content.shape[1]).unsqueeze(-1), 0.0)
            return content if isinstance(output, Tensor) else (content, *output[1:])

        handles.append(model.encoder.get_submodule(model.layout.content).register_forward_hook(clear))
    blocks: list[Tensor] = []
    last = model.encoder.get_submodule(model.layout.blocks[-1])
    handles.append(last.register_forward_hook(lambda module, args, output: blocks.append(_first(output))))
    keys = nn.functional.pad(rows, (tiny.prefix, 0))
    with torch.no_grad(), hidden_keys(keys, counts):
        output = model.encoder(**repeated)[0]
    for handle in handles:
        handle.remove()
    return blocks[-1] if output.shape[:2] != blocks[-1].shape[:2] else output


def _first(output) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


@pytest.mark.parametrize("num_masks", [1, 3])
@pytest.mark.parametrize("name", VISIBLE)
def test_visible_only__equals_full_length_with_masked_keys_hidden(name, num_masks):
    tiny = TINY[name]
    model = shared_model_of(tiny, "visible")
    inputs, mask = tiny.inputs(), masks_of(tiny, num_masks)
    content, *_ = Student(model)(mask, inputs)
    counts: list[int] = []
    full = full_length_run(model, tiny, inputs, mask, counts)
    assert sum(counts) >= 3  # every block's attention went through what hides keys

    expected = full[:, tiny.prefix :].unflatten(0, mask.shape[:2])
    assert (content[~mask] - expected[~mask]).abs().max() <= 1e-5 * max(1, expected.abs().max())
    assert not content[mask].any()


@pytest.mark.parametrize("name", [name for name in VISIBLE if name in PADDED])
def test_visible_only__of_ragged_rows_equals_full_length_too(name):
    tiny = TINY[name]
    short = short_of(tiny)
    model = shared_model_of(tiny, "visible")
    inputs, mask = tiny.ragged(short), random_masks(2, [tiny.length, short], tiny.length)
    content, *_ = Student(model)(mask, inputs)
    full = full_length_run(model, tiny, inputs, mask, [])
    visible = ~mask
    visible[1, :, short:] = False
    expected = full[:, tiny.prefix :].unflatten(0, mask.shape[:2])
    assert (content[visible] - expected[visible]).abs().max() <= 1e-5 * max(1, expected.abs().max())


def short_of(tiny: Tiny) -> int:
    return SHORT // tiny.stride


@pytest.mark.parametrize("name", TINY)
def test_self_test__says_what_is_so(name):
    tiny = TINY[name]
    model = shared_model_of(tiny)
    inputs = tiny.inputs()
    encoder_copy = float32_copy(model.encoder)
    measurements = measure(model.encoder, model.layout, inputs, encoder_copy)
    fault = visible_only_fault(model.encoder, model.layout, measurements, inputs, encoder_copy)
    assert measurements.length == tiny.length
    assert (fault is None) == (not tiny.visible)
    assert tiny.visible in (fault or "")


@pytest.mark.parametrize("name", [name for name in TINY if name not in VISIBLE])
def test_visible_only__is_refused_at_construction_where_it_is_impossible(name):
    with pytest.raises(UnsupportedBackboneError, match="student_input='visible' is not possible") as refused:
        model_of(TINY[name], "visible")
    message = str(refused.value)
    assert repr(TINY[name].model_type) in message
    assert any(reason in message for reason in REASONS)  # of the made-up sample, which may be longer
    assert "Set student_input='mask_token'" in message
    assert "costs" in message


# --- padding


# Convolutions over words or frames, and landmarks among the positions, ignore the padding mask.
READS_PADDING = {"convbert", "mobilebert", "nystromformer", "wav2vec2-conformer"}
# Several convolutions with norms between them depend on where padding begins, and so do blocks of keys.
SEES_PADDING = READS_PADDING | {"data2vec-audio", "longt5"}


@pytest.mark.parametrize(("name", "student_input"), [pair for pair in PADDED_STUDENTS if pair[0] not in READS_PADDING])
def test_padding__may_hold_anything(name, student_input):
    tiny = TINY[name]
    short = short_of(tiny)
    model = shared_model_of(tiny, student_input)
    student = Student(model)
    inputs, mask = tiny.ragged(short), random_masks(2, [tiny.length, short], tiny.length)
    before, *results = student(mask, inputs)
    count = tiny.crop(inputs, short)[tiny.reads].shape[1]
    values = inputs[tiny.reads].clone()
    values[1, count:] = values[1, count:].flip(0) if tiny.reads == "input_ids" else 0.5
    after, *new_results = student(mask, inputs | {tiny.reads: values})
    assert not torch.equal(values, inputs[tiny.reads])
    assert torch.equal(after[0], before[0])
    assert torch.equal(after[1, :, :short], before[1, :, :short])
    for result, new in zip(results, new_results, strict=True):
        assert torch.equal(result, new)


@pytest.mark.parametrize(("name", "student_input"), [pair for pair in PADDED_STUDENTS if pair[0] not in SEES_PADDING])
def test_padding__changes_nothing_at_real_positions(name, student_input):
    tiny = TINY[name]
    short = short_of(tiny)
    student = Student(shared_model_of(tiny, student_input))
    inputs, mask = tiny.ragged(short), random_masks(2, [tiny.length, short], tiny.length)
    content, predictions, targets = student(mask, inputs)
    alone = {key: value[1:] for key, value in tiny.crop(inputs, short).items()}
    own_content, own_predictions, own_targets = student(mask[1:, :, :short], alone)
    for padded, own in (
        (content[1:, :, :short], own_content),
        (predictions[-len(own_predictions) :], own_predictions),
        (targets[-len(own_targets) :], own_targets),
    ):
        assert (padded - own).abs().max() <= 1e-5 * max(1, own.abs().max())


# --- targets, gradients, teacher


@pytest.mark.parametrize("name", [name for name, tiny in TINY.items() if tiny.feed_forward])
def test_targets__are_the_mean_of_the_feed_forward_outputs_normalised(name):
    tiny = TINY[name]
    model = model_of(tiny)
    model.config.average_top_k_layers = 2
    inputs, mask = tiny.inputs(), masks_of(tiny)
    seen: list[Tensor] = []
    blocks = [model.teacher.get_submodule(block) for block in model.layout.blocks]
    for block in dict.fromkeys(blocks):
        block.get_submodule(tiny.feed_forward).register_forward_hook(lambda module, args, output: seen.append(output))
    with torch.no_grad():
        targets = model(mask=mask, **inputs).targets
    assert len(seen) % 3 == 0
    tops = [seen[-1], seen[-1 - len(seen) // 3]]  # mobilebert's feed-forward layers come several to a block
    channels = 3 if model.layout.quirks.channels_apart else 1
    expected = torch.zeros(())
    for top in tops:
        hidden = top.flatten(1, -2)[:, tiny.prefix : tiny.prefix + tiny.length]
        hidden = hidden.reshape(SAMPLES * channels, tiny.length // channels, -1).double()
        mean, variance = hidden.mean(1, keepdim=True), hidden.var(1, correction=0, keepdim=True)
        expected = expected + (hidden - mean) / (variance + 1e-5).sqrt() / 2
    expected = expected.reshape(SAMPLES, 1, tiny.length, -1).expand(-1, mask.shape[1], -1, -1)[mask]
    assert (targets - expected).abs().max() <= 1e-4


# Their own code puts values of one precision into tensors of another, which autocast does not allow.
MIXES_DTYPES = {"deberta", "xmod"}


@pytest.mark.parametrize(("name", "student_input"), STUDENTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_step__gives_every_trainable_weight_a_finite_gradient_and_nothing_else_is_trainable(
    name, student_input, dtype
):
    tiny = TINY[name]
    model = model_of(tiny, student_input)
    mask = masks_of(tiny)
    if name in MIXES_DTYPES and dtype != torch.float32:
        with torch.autocast("cpu", dtype), pytest.raises(RuntimeError, match="dtype|BFloat16"):
            model.encoder(**tiny.inputs())
        return
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        loss = model(mask=mask, **tiny.inputs()).loss
    assert torch.isfinite(loss)
    loss.backward()
    trained = {key: weight for key, weight in model.named_parameters() if weight.requires_grad}
    assert [key for key, weight in trained.items() if weight.grad is None] == []
    assert all(torch.isfinite(weight.grad).all() for weight in trained.values())
    assert not any(key.startswith("teacher.") for key in trained)
    frozen = [key for key, weight in model.encoder.named_parameters() if not weight.requires_grad]
    new = AutoModel.from_config(tiny.config())
    new = new.get_encoder() if type(new.config).is_encoder_decoder else new
    fixed = {key for key, weight in new.named_parameters() if not weight.requires_grad}
    assert set(frozen) <= fixed | model.measurements.unused | {model.layout.mask_parameter}
    torch.optim.SGD(trained.values(), lr=1e-3).step()
    assert all(torch.isfinite(weight).all() for weight in trained.values())


@pytest.mark.parametrize("name", TINY)
def test_teacher__is_exact_at_the_start_and_after_an_update(name):
    model = model_of(TINY[name])
    student, teacher = model.encoder.state_dict(), model.teacher.state_dict()
    assert student.keys() == teacher.keys()
    assert all(torch.equal(student[key], teacher[key]) for key in student)
    buffers = dict(model.encoder.named_buffers())
    assert buffers.keys() == dict(model.teacher.named_buffers()).keys()
    assert all(torch.equal(buffers[key], buffer) for key, buffer in model.teacher.named_buffers())

    before = {key: value.clone() for key, value in model.teacher.named_parameters()}
    with torch.no_grad():
        for value in [*model.encoder.parameters(), *model.encoder.buffers()]:
            if value.is_floating_point():
                value.add_(1.0)
    EMATeacher(model.teacher, model.encoder, frozenset()).step(0.75)
    trainable = {key for key, value in model.encoder.named_parameters() if value.requires_grad}
    for key, value in model.teacher.named_parameters():
        assert torch.allclose(value, before[key] + (0.25 if key in trainable else 1.0), atol=1e-5), key
    buffers = dict(model.encoder.named_buffers())
    assert all(torch.equal(buffers[key], buffer) for key, buffer in model.teacher.named_buffers())


# --- saving


@pytest.mark.parametrize("name", TINY)
def test_saved__loads_bit_equal(name, tmp_path: Path):
    tiny = TINY[name]
    model = model_of(tiny)
    with torch.no_grad():
        for parameter in model.teacher.parameters():
            parameter.add_(0.1)
    model.save_pretrained(tmp_path)
    loaded = Data2VecGenericForPreTraining.from_pretrained(tmp_path).train()
    own, other = model.state_dict(), loaded.state_dict()
    assert own.keys() == other.keys()
    assert [key for key in own if not torch.equal(own[key], other[key])] == []
    trainable, loaded_trainable = (
        [key for key, parameter in each.named_parameters() if parameter.requires_grad] for each in (model, loaded)
    )
    assert trainable == loaded_trainable
    inputs, mask = tiny.inputs(), masks_of(tiny)
    assert all(map(torch.equal, Student(loaded)(mask, inputs), Student(model)(mask, inputs)))


@pytest.mark.parametrize("name", TINY)
def test_encoder__loads_by_plain_auto_model_in_the_right_class(name, tmp_path: Path):
    tiny = TINY[name]
    model = shared_model_of(tiny)
    save_encoder(model.encoder, tmp_path)
    plain = AutoModel.from_pretrained(tmp_path)
    assert type(plain) is type(AutoModel.from_config(tiny.config()))
    plain = plain.get_encoder() if type(plain.config).is_encoder_decoder else plain
    assert type(plain) is type(model.encoder)
    own, other = model.encoder.state_dict(), plain.state_dict()
    assert [key for key in own if not torch.equal(own[key], other[key])] == []


# --- how it is run


@pytest.mark.parametrize(("name", "student_input"), STUDENTS)
def test_activation_checkpointing__changes_no_gradient(name, student_input):
    tiny = TINY[name]
    if not shared_model_of(tiny, student_input).encoder.supports_gradient_checkpointing:
        pytest.skip(f"{name} has no activation checkpointing")
    gradients = []
    for enabled in (False, True):
        model = model_of(tiny, student_input)
        if enabled:
            getattr(model, f"{CHECKPOINTING_NAMES[0]}_enable")()
        model(mask=masks_of(tiny), **tiny.inputs()).loss.backward()
        gradients.append({key: weight.grad for key, weight in model.named_parameters() if weight.requires_grad})
    for key, gradient in gradients[0].items():
        assert torch.allclose(gradients[1][key], gradient, rtol=1e-5, atol=1e-7), key


@pytest.mark.parametrize(("name", "student_input"), STUDENTS)
def test_attention__eager_and_sdpa_agree(name, student_input):
    tiny = TINY[name]
    model = shared_model_of(tiny, student_input)
    own_attention = model.encoder.config._attn_implementation
    attention = "eager" if own_attention == "sdpa" else "sdpa"
    try:
        other = new_model(tiny, student_input, attention)
    except ValueError as error:
        if "does not support an attention implementation" not in str(error):
            raise
        pytest.skip(f"{name} has no {attention} attention")
    rng_state = torch.get_rng_state()
    results = []
    for each in (model, other):
        torch.set_rng_state(rng_state)
        results.append(each(mask=masks_of(tiny), **tiny.inputs()).loss)
    assert {own_attention, other.encoder.config._attn_implementation} == {"eager", "sdpa"}
    assert torch.allclose(*results, rtol=1e-4)
