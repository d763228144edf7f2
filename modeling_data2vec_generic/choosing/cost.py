"""What a step costs, in operations and in memory, before there is a model."""

from dataclasses import dataclass

_STORED = 34  # bytes that each position and channel of a block keeps for the backward pass (arXiv 2205.05198, in bf16)
_STORED_BY_DECODER = 16  # the same of a convolution with its norm and activation
_WAVEFORM = (3200, 1600, 800, 400, 200, 100, 50)  # frames per second after each convolution of wav2vec 2.0
_KERNELS = (10, 3, 3, 3, 3, 2, 2)
_STORED_BY_CONVOLUTIONS = 8  # bytes per frame and channel


@dataclass(frozen=True)
class Work:
    """What student, teacher and predictor do with one sample.

    Args:
        positions: that the teacher reads, in each of `sequences`.
        seen: positions that the student reads, for each mask.
        masks: per sample.
        blocks, width: of the encoder.
        sequences: that a sample consists of: the channels of series that are kept apart, otherwise one.
        decoder_layers, decoder_width, decoder_kernel, decoder_groups: of the convolutional decoder; no layers without
            one. The kernel counts all positions that a convolution spans.
        seconds: of sound that convolutions turn into positions.
        convolutions: channels of these.
    """

    positions: int
    seen: int
    masks: int
    blocks: int
    width: int
    sequences: int = 1
    decoder_layers: int = 0
    decoder_width: int = 0
    decoder_kernel: int = 1
    decoder_groups: int = 1
    seconds: float = 0.0
    convolutions: int = 0

    @property
    def flops(self) -> float:
        """Floating-point operations of a step per sample: the teacher's pass, and the student's there and back."""
        decoder = self.decoder_layers * 2 * self.decoder_kernel * self.decoder_width**2 / self.decoder_groups
        student = self.masks * (self._encoder(self.seen) + self.positions * decoder)
        front = sum(
            2 * frames * kernel * before * self.convolutions
            for frames, kernel, before in zip(
                _WAVEFORM, _KERNELS, (1, *[self.convolutions] * (len(_KERNELS) - 1)), strict=True
            )
        )
        return self.sequences * (self._encoder(self.positions) + 3 * student) + 3 * self.seconds * front

    def _encoder(self, positions: int) -> float:
        """Operations of the blocks in one pass: linear layers, and the products of pairs of positions."""
        return positions * self.blocks * (24 * self.width**2 + 4 * positions * self.width)

    @property
    def bytes(self) -> float:
        """Memory that a sample takes until the backward pass is over."""
        blocks = _STORED * self.seen * self.blocks * self.width
        decoder = _STORED_BY_DECODER * self.positions * self.decoder_layers * self.decoder_width
        front = _STORED_BY_CONVOLUTIONS * self.seconds * sum(_WAVEFORM) * self.convolutions
        return self.sequences * self.masks * (blocks + decoder) + front
