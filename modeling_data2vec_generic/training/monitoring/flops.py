"""Floating-point operations of a training step, in the usual convention.

A weight of a linear layer or a convolution costs 2 operations (a product and a sum) at each position it is applied to,
and 4 more in the backward pass: 2·N·tokens forward, 6·N·tokens forward and backward. As usual, the products of pairs
in attention, norms, activations and the optimizer are not counted.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ...backbone_data2vec_generic import as_sequence, first, hooked
from ...layout_data2vec_generic import is_within
from ...modeling_data2vec_generic import Data2VecGenericForPreTraining

FORWARD, BACKWARD = 1, 2  # passes through all weights


@dataclass(frozen=True)
class _Costs:
    """Operations of one forward pass of an encoder.

    Args:
        content: up to the content module, per position of the content.
        between: after it but outside of the blocks, per position of the content.
        blocks: of all blocks, per position that the first block returns.
        entered: positions that the first block returns per position of the content, prefix tokens included.
    """

    content: float
    between: float
    blocks: float
    entered: float


class StepFlops:
    """Counts the operations of student, teacher and predictor, forward and backward, of each batch.

    To how many positions each weight of the encoder is applied is found in the teacher's pass over the first batch.

    Args:
        model: the model whose steps are counted.
    """

    def __init__(self, model: Data2VecGenericForPreTraining):
        self.model = model
        self._costs: _Costs | None = None
        self._entered = 0
        self._shared = False

    @contextmanager
    def watched(self, inputs: Mapping[str, Any]) -> Iterator[None]:
        """A context around a pass of the model that notes how many positions the student's blocks read, and whether
        student and teacher share their content.

        Args:
            inputs: what the model reads.
        """
        self._shared = self.model.shares_content(inputs)

        def note(block: nn.Module, args: Any, output: Any) -> None:
            self._entered = _positions(output, self.model)

        block = self.model.encoder.get_submodule(self.model.layout.blocks[0])
        with hooked(block.register_forward_hook, note):
            if self._costs is not None:
                yield
                return
            with _spending(self.model, self._shared) as spent:
                yield
            mask = inputs["mask"]
            self._costs = spent.by_position(len(mask) * mask.shape[-1])

    def count(self, inputs: Mapping[str, Any], num_predictions: int) -> int:
        """Operations of the batch that was watched last, forward and backward.

        Args:
            inputs: what the model read.
            num_predictions: its masked positions.
        """
        mask = inputs["mask"]
        rows = mask[..., 0].numel()
        samples, length = len(mask), mask.shape[-1]
        costs = self._costs
        assert costs is not None  # a pass has been watched
        teacher = samples * length * (costs.between + costs.blocks * costs.entered)
        if not self._shared:
            teacher += samples * length * costs.content
        own_content = f"student_{self.model.main_input_name}" in inputs
        measurements = self.model.measurements
        assert measurements is not None  # the model has run
        once = not own_content and self.model.config.student_input == "visible" and not measurements.mixes_neighbours
        student = (rows if own_content else samples) * length * costs.content
        student += (samples if once else rows) * length * costs.between
        student += self._entered * costs.blocks
        predictor = 0.0
        for layer in self.model.predictor.modules():
            if isinstance(layer, nn.Conv1d | nn.Conv2d):
                predictor += 2 * layer.weight.numel() * rows * length
            elif isinstance(layer, nn.Linear):
                predictor += 2 * layer.weight.numel() * num_predictions
        return round(FORWARD * teacher + (FORWARD + BACKWARD) * (student + predictor))


@dataclass
class _Spent:
    """Operations of one pass of the teacher, by part, and the positions that its first block returned."""

    content: float = 0.0
    between: float = 0.0
    blocks: float = 0.0
    entered: int = 0
    in_content: bool = True

    def by_position(self, content: int) -> _Costs:
        """The costs per position, of a pass over this many positions of the content."""
        return _Costs(
            self.content / content, self.between / content, self.blocks / self.entered, self.entered / content
        )


@contextmanager
def _spending(model: Data2VecGenericForPreTraining, shared: bool) -> Iterator[_Spent]:
    """Counts the teacher's operations in the one pass that is made within the context.

    It is a pass of the whole model: no part of a sharded model (FSDP2) may run by itself.

    Args:
        shared: whether the student's modules make the content for the teacher.
    """
    teacher, layout, spent = model.teacher, model.layout, _Spent()
    measured = model.measurements
    borrowed = measured.content_modules if shared and measured is not None else ()

    def spend(name: str, lent: bool) -> Any:
        within = is_within(name, layout.blocks)

        def add(layer: Any, args: Any, output: Any) -> None:
            if lent and not spent.in_content:  # the student's own pass
                return
            convolves = isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
            positions = first(output).numel() / first(output).shape[1 if convolves else -1]
            part = "blocks" if within else "content" if spent.in_content else "between"
            setattr(spent, part, getattr(spent, part) + 2 * layer.weight.numel() * positions)

        return add

    def leave_content(module: nn.Module, args: Any, output: Any) -> None:
        spent.in_content = False

    def enter(block: nn.Module, args: Any, output: Any) -> None:
        spent.entered = _positions(output, model)

    with ExitStack() as stack:
        for name, layer in teacher.named_modules():
            lent = name in borrowed or is_within(name, borrowed)
            if lent:
                layer = model.encoder.get_submodule(name)
            weight = getattr(layer, "weight", None)
            if isinstance(weight, Tensor) and weight.ndim > 1 and not isinstance(layer, nn.Embedding):
                stack.enter_context(hooked(layer.register_forward_hook, spend(name, lent)))
        stack.enter_context(hooked(teacher.get_submodule(layout.content).register_forward_hook, leave_content))
        stack.enter_context(hooked(teacher.get_submodule(layout.blocks[0]).register_forward_hook, enter))
        yield spent


def _positions(output: Any, model: Data2VecGenericForPreTraining) -> int:
    """Positions of all rows in what a block returns."""
    hidden = as_sequence(first(output), model.layout.quirks.channels_first)
    return hidden.numel() // hidden.shape[-1]
