"""What the student reads and how often, tested on a few types because it does not depend on the type."""

import pytest
import torch
from torch import Tensor, nn

from ..tiny_encoders import SAMPLES, TINY, VISIBLE
from .test_conformance import Student, full_length_run, model_of, random_masks


@pytest.mark.parametrize("name", VISIBLE)
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
    watch("content", model.encoder.get_submodule(model.layout.content))
    watch("block", model.encoder.get_submodule(model.layout.blocks[0]))
    watch("teacher", model.teacher.get_submodule(model.layout.blocks[0]))
    student(mask, inputs)
    calls = model.measurements.num_layers // len(model.layout.blocks)  # of one block in one pass: 3 in ALBERT
    full_length = seen["teacher"][0][1]
    assert seen["teacher"] == [(SAMPLES, full_length)] * calls
    assert [rows for rows, _ in seen["content"]] == [SAMPLES]
    visible = int((~mask[0, 0]).sum())
    assert seen["block"] == [(3 * SAMPLES, full_length - tiny.length + visible)] * calls


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
    scrambled = tiny.scramble(student.model.encoder, "", inputs, everything)
    after, *_ = student(mask, scrambled | {"student_input_ids": student_ids})
    assert torch.equal(before, after)


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
def test_visible_only__finds_the_sequence_where_sizes_are_alike(length, samples):
    model = model_of(TINY["bert"], "visible")
    samples = length if isinstance(samples, str) else samples
    inputs = {"input_ids": torch.randint(5, 50, (samples, length))}
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if samples > 1:
        inputs["attention_mask"][-1, -1] = 0
    real = inputs["attention_mask"].bool()
    mask = random_masks(3, real.sum(1).tolist(), length)
    content, *_ = Student(model)(mask, inputs)
    visible = ~mask & real.unsqueeze(1)
    full = full_length_run(model, TINY["bert"], inputs, mask, [])
    expected = full.unflatten(0, mask.shape[:2])
    assert (content[visible] - expected[visible]).abs().max() <= 1e-5
