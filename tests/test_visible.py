"""What the student reads: visible positions as if the others were not there, and nothing of masked content."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from modeling_data2vec_generic import Data2VecGenericConfig, Data2VecGenericForPreTraining
from modeling_data2vec_generic.backbone_data2vec_generic import VisiblePositions, visible_only
from modeling_data2vec_generic.examination_data2vec_generic import examine, visible_only_fault

from .tiny_configs import SAMPLES, TINY, Tiny, tokens

RAGGED = [name for name, tiny in TINY.items() if tiny.crop is not None]
SHORT = 9


def model_of(tiny: Tiny, student_input: str, **fields) -> Data2VecGenericForPreTraining:
    """The decoder's input holds no noise, so that it is the student's output and nothing else."""
    torch.manual_seed(0)
    config = Data2VecGenericConfig(
        student_input=student_input,
        predictor="conv",
        decoder_dim=32,
        decoder_layers=2,
        decoder_kernel_size=3,
        decoder_groups=4,
        mask_noise_std=0.0,
        **fields,
    )
    return Data2VecGenericForPreTraining(config, encoder=tiny.encoder()).train()


def random_masks(num_masks: int, lengths: list[int], total: int) -> Tensor:
    """(B, M, T) bool: a span of half of each sample's positions, somewhere, and one more position."""
    mask = torch.zeros(len(lengths), num_masks, total, dtype=torch.bool)
    for sample, length in enumerate(lengths):
        for row in mask[sample]:
            start = int(torch.randint(length // 2, ()))
            row[start : start + length // 2] = True
            free = (~row[:length]).nonzero().flatten()
            row[free[torch.randint(len(free), ())]] = True
    return mask


class Student:
    """Runs a model and keeps what its encoder and its predictor were given and gave."""

    def __init__(self, model: Data2VecGenericForPreTraining):
        self.model = model
        self.encoded = self.content = torch.empty(0)
        model.encoder.register_forward_hook(lambda module, args, output: setattr(self, "encoded", output[0]))
        model.predictor.register_forward_pre_hook(lambda module, args: setattr(self, "content", args[0]))

    def __call__(self, mask: Tensor, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Student's content (B, M, T, C), zero where it has none, predictions (N, C) and targets (N, C)."""
        with torch.no_grad():
            output = self.model(mask=mask, **inputs)
        content = self.content.unflatten(0, mask.shape[:2])
        return content, output.predictions, output.targets


def attention_that_hides(keys: Tensor) -> Callable[..., Tensor]:
    """Attention in which nobody sees these keys; (R, L) bool, True = hidden."""
    attend = nn.functional.scaled_dot_product_attention

    def hide(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **options) -> Tensor:
        bias = torch.zeros(keys.shape).masked_fill(keys, -torch.inf)[:, None, None]
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            bias = bias.masked_fill(~attn_mask, -torch.inf)
        elif attn_mask is not None:
            bias = bias + attn_mask
        return attend(query, key, value, attn_mask=bias, **options)

    return hide


def full_length_run(
    model: Data2VecGenericForPreTraining, inputs: dict[str, Tensor], mask: Tensor, monkeypatch: pytest.MonkeyPatch
) -> Tensor:
    """(R, L, C): the plain encoder on whole sequences, each M times, with masked keys hidden from attention.

    Where a convolution mixes frames before the blocks, it sees zeros at masked ones.
    """
    rows = mask.flatten(0, 1)
    repeated = {name: value.repeat_interleave(mask.shape[1], 0) for name, value in inputs.items()}
    encoder = model.encoder
    with torch.no_grad(), monkeypatch.context() as patched:
        prefix = encoder(**inputs)[0].shape[1] - mask.shape[2]
        keys = nn.functional.pad(rows, (prefix, 0))
        patched.setattr(nn.functional, "scaled_dot_product_attention", attention_that_hides(keys))
        hook = None
        if hasattr(encoder, "feature_projection"):
            hook = encoder.feature_projection.register_forward_hook(
                lambda module, args, output: (output[0].masked_fill(rows.unsqueeze(-1), 0.0), output[1])
            )
        full = encoder(**repeated)[0]
        if hook is not None:
            hook.remove()
    return full


@pytest.mark.parametrize("num_masks", [1, 3])
@pytest.mark.parametrize("name", TINY)
def test_visible_only_equals_full_length_with_masked_keys_hidden(name, num_masks, monkeypatch):
    tiny = TINY[name]
    model = model_of(tiny, "visible")
    inputs, mask = tiny.inputs(), random_masks(num_masks, [tiny.length] * SAMPLES, tiny.length)
    student = Student(model)
    content, *_ = student(mask, inputs)
    full = full_length_run(model, inputs, mask, monkeypatch)

    prefix = full.shape[1] - tiny.length
    visible = ~mask
    expected = full[:, prefix:].unflatten(0, mask.shape[:2])
    assert (content[visible] - expected[visible]).abs().max() <= 1e-5
    assert not content[mask].any()
    if prefix:
        assert (encoded_prefix(model, mask, inputs, prefix) - full[:, :prefix]).abs().max() <= 1e-5


def encoded_prefix(model: Data2VecGenericForPreTraining, mask: Tensor, inputs: dict, prefix: int) -> Tensor:
    student = Student(model)
    student(mask, inputs)
    return student.encoded[:, :prefix]


@pytest.mark.parametrize("num_masks", [1, 3])
@pytest.mark.parametrize("name", RAGGED)
def test_visible_only__of_ragged_rows_equals_full_length_too(name, num_masks, monkeypatch):
    tiny = TINY[name]
    model = model_of(tiny, "visible")
    inputs, mask = tiny.ragged(SHORT), random_masks(num_masks, [tiny.length, SHORT], tiny.length)
    content, *_ = Student(model)(mask, inputs)
    full = full_length_run(model, inputs, mask, monkeypatch)

    visible = ~mask
    visible[1, :, SHORT:] = False
    expected = full.unflatten(0, mask.shape[:2])
    assert (content[visible] - expected[visible]).abs().max() <= 1e-5


@pytest.mark.parametrize("name", TINY)
def test_visible_only__with_everything_visible_is_the_plain_encoder(name):
    tiny = TINY[name]
    model = model_of(tiny, "visible").eval()
    inputs = tiny.inputs()
    prefix = model.examination.prefix
    index = VisiblePositions(torch.ones(SAMPLES, tiny.length, dtype=torch.bool), None).full_index(prefix)
    with torch.no_grad():
        plain = model.encoder(**inputs)[0]
        with visible_only(model.encoder, model.seams, index, torch.arange(SAMPLES), prefix, tiny.length):
            assert (model.encoder(**inputs)[0] - plain).abs().max() <= 1e-5
        assert torch.equal(model.encoder(**inputs)[0], plain)  # no hook is left behind


@pytest.mark.parametrize("name", TINY)
def test_masks_of_a_sample_share_the_teacher_and_what_runs_before_the_blocks(name):
    tiny = TINY[name]
    model = model_of(tiny, "visible")
    inputs, mask = tiny.inputs(), random_masks(3, [tiny.length] * SAMPLES, tiny.length)
    Student(model)(mask, inputs)  # the first pass also finds out how the encoder works
    seen: dict[str, list[tuple[int, int]]] = {"content": [], "block": [], "teacher": []}

    def watch(key: str, module: nn.Module) -> None:
        module.register_forward_hook(lambda module, args, output: seen[key].append(shape_of(output)))

    def shape_of(output: Tensor | tuple) -> tuple[int, int]:
        tensor = output if isinstance(output, Tensor) else output[0]
        return tensor.shape[0], tensor.shape[1]

    student = Student(model)
    watch("content", model.encoder.get_submodule(model.seams.content))
    watch("block", model.encoder.get_submodule(model.seams.blocks[0]))
    watch("teacher", model.teacher.get_submodule(model.seams.blocks[0]))
    student(mask, inputs)
    (teacher_rows, full_length), *further = seen["teacher"]
    assert (teacher_rows, further) == (SAMPLES, [])
    assert [rows for rows, _ in seen["content"]] == [SAMPLES]
    visible = int((~mask[0, 0]).sum())
    assert seen["block"] == [(3 * SAMPLES, full_length - tiny.length + visible)]


@pytest.mark.parametrize("name", TINY)
def test_mixing_before_the_blocks_is_noticed(name):
    tiny = TINY[name]
    model = model_of(tiny, "visible")
    examination = examine(model.encoder, model.seams, tiny.inputs())
    assert examination.mixes_neighbours is tiny.premixes
    assert visible_only_fault(model.encoder, model.seams, examination, tiny.inputs()) is None
    assert model.encoder.training


@pytest.mark.parametrize("num_masks", [1, 3])
@pytest.mark.parametrize("student_input", ["visible", "mask_token"])
@pytest.mark.parametrize("name", TINY)
def test_masked_content_does_not_leak(name, student_input, num_masks):
    tiny = TINY[name]
    student = Student(model_of(tiny, student_input))
    inputs, mask = tiny.inputs(), random_masks(num_masks, [tiny.length] * SAMPLES, tiny.length)
    before, predictions, targets = student(mask, inputs)
    for m in range(num_masks):
        after, new_predictions, new_targets = student(mask, tiny.scramble(inputs, mask[:, m]))
        assert torch.equal(after[:, m], before[:, m])
        rows = mask.nonzero()[:, 1] == m
        assert torch.equal(new_predictions[rows], predictions[rows])
        assert not torch.equal(new_targets, targets)  # the teacher does see it
    shown = ~mask[:, 0]
    assert not torch.equal(student(mask, tiny.scramble(inputs, shown))[0][:, 0], before[:, 0])


@pytest.mark.parametrize("num_masks", [1, 3])
@pytest.mark.parametrize("name", TINY)
def test_mask_token__hides_everything_if_everything_is_masked(name, num_masks):
    tiny = TINY[name]
    student = Student(model_of(tiny, "mask_token"))
    mask = torch.ones(SAMPLES, num_masks, tiny.length, dtype=torch.bool)
    one, predictions, targets = student(mask, tiny.inputs())
    other, other_predictions, other_targets = student(mask, tiny.inputs())
    assert torch.equal(one, other)
    assert torch.equal(predictions, other_predictions)
    assert not torch.equal(targets, other_targets)
    assert not torch.equal(one[:, :, 0], one[:, :, 1])  # positions are still known


@pytest.mark.parametrize("student_input", ["visible", "mask_token"])
@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_student_tokens__are_all_that_the_student_reads(name, student_input):
    tiny = TINY[name]
    student = Student(model_of(tiny, student_input))
    inputs, mask = tiny.inputs(), random_masks(3, [tiny.length] * SAMPLES, tiny.length)
    repeated = inputs["input_ids"].unsqueeze(1).expand(-1, 3, -1)
    student_ids = repeated.masked_fill(mask, 4)
    before, *_ = student(mask, inputs | {"student_input_ids": student_ids})
    everything = torch.ones(SAMPLES, tiny.length, dtype=torch.bool)
    after, *_ = student(mask, tiny.scramble(inputs, everything) | {"student_input_ids": student_ids})
    assert torch.equal(before, after)


@pytest.mark.parametrize("num_masks", [1, 3])
@pytest.mark.parametrize("student_input", ["visible", "mask_token"])
@pytest.mark.parametrize("name", RAGGED)
def test_padding__may_hold_anything(name, student_input, num_masks):
    tiny = TINY[name]
    student = Student(model_of(tiny, student_input))
    inputs, mask = tiny.ragged(SHORT), random_masks(num_masks, [tiny.length, SHORT], tiny.length)
    padding = torch.zeros(SAMPLES, tiny.length, dtype=torch.bool)
    padding[1, SHORT:] = True
    before, *results = student(mask, inputs)
    after, *new_results = student(mask, tiny.scramble(inputs, padding))
    assert torch.equal(after[0], before[0])
    assert torch.equal(after[1, :, :SHORT], before[1, :, :SHORT])
    for result, new in zip(results, new_results, strict=True):
        assert torch.equal(result, new)


@pytest.mark.parametrize("num_masks", [1, 3])
@pytest.mark.parametrize("student_input", ["visible", "mask_token"])
@pytest.mark.parametrize("name", [name for name in RAGGED if name != "data2vec-audio"])
def test_padding__changes_nothing_at_real_positions(name, student_input, num_masks):
    """Not for data2vec-audio, whose own positional convolutions, several with norms between, see where padding is."""
    tiny = TINY[name]
    student = Student(model_of(tiny, student_input))
    inputs, mask = tiny.ragged(SHORT), random_masks(num_masks, [tiny.length, SHORT], tiny.length)
    content, predictions, targets = student(mask, inputs)
    alone = {name: value[1:] for name, value in tiny.crop(inputs, SHORT).items()}
    own_content, own_predictions, own_targets = student(mask[1:, :, :SHORT], alone)
    assert (content[1:, :, :SHORT] - own_content).abs().max() <= 1e-5
    assert (predictions[-len(own_predictions) :] - own_predictions).abs().max() <= 1e-5
    assert (targets[-len(own_targets) :] - own_targets).abs().max() <= 1e-5


@pytest.mark.parametrize("student_input", ["visible", "mask_token"])
@pytest.mark.parametrize("name", TINY)
def test_activation_checkpointing__changes_no_gradient(name, student_input):
    tiny = TINY[name]
    gradients = []
    for enabled in (False, True):
        model = model_of(tiny, student_input)
        if enabled:
            model.activation_checkpointing_enable({"use_reentrant": False})
        mask = random_masks(3, [tiny.length] * SAMPLES, tiny.length)
        model(mask=mask, **tiny.inputs()).loss.backward()
        gradients.append({key: weight.grad for key, weight in model.named_parameters() if weight.requires_grad})
    for key, gradient in gradients[0].items():
        assert torch.equal(gradients[1][key], gradient), key


@pytest.mark.parametrize("name", ["bert", "wav2vec2", "vit"])
def test_visible_only__refuses_a_row_without_visible_positions(name):
    tiny = TINY[name]
    model = model_of(tiny, "visible")
    with pytest.raises(ValueError, match=r"mask.*visible"):
        model(mask=torch.ones(SAMPLES, 1, tiny.length, dtype=torch.bool), **tiny.inputs())


def test_visible_only__refuses_rows_that_leave_different_numbers_visible():
    tiny = TINY["vit"]
    mask = torch.zeros(SAMPLES, 1, tiny.length, dtype=torch.bool)
    mask[0, 0, :3] = mask[1, 0, :4] = True
    with pytest.raises(ValueError, match=r"Mask the same number of positions in every row of the same length"):
        model_of(tiny, "visible")(mask=mask, **tiny.inputs())


@pytest.mark.parametrize("length", [4, 8, 32], ids=["number of heads", "width of a head", "width"])
@pytest.mark.parametrize("samples", [1, 3, "as many as positions"])
def test_visible_only__finds_the_sequence_where_sizes_are_alike(length, samples, monkeypatch):
    model = model_of(tokens("bert", max_position_embeddings=64), "visible")
    samples = length if isinstance(samples, str) else samples
    inputs = {"input_ids": torch.randint(5, 50, (samples, length))}
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if samples > 1:
        inputs["attention_mask"][-1, -1] = 0
    real = inputs["attention_mask"].bool()
    mask = random_masks(3, real.sum(1).tolist(), length)
    content, *_ = Student(model)(mask, inputs)
    visible = ~mask & real.unsqueeze(1)
    expected = full_length_run(model, inputs, mask, monkeypatch).unflatten(0, mask.shape[:2])
    assert (content[visible] - expected[visible]).abs().max() <= 1e-5
