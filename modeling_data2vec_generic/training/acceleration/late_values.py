"""Values of a device that the host reads later, when they have long been there."""

import torch
from torch import Tensor


class LateValues:
    """A copy of a few values of a device, begun now and read later, so that the host need not wait for the device.

    Args:
        values: a tensor, which must not be written to afterwards.
    """

    def __init__(self, values: Tensor):
        self._values = values
        self._copied: torch.Event | None = None
        self._read: list[float] | None = None
        if values.device.type != "cpu":
            self._values = values.to("cpu", non_blocking=True)  # torch puts such a copy into pinned memory
            self._copied = torch.Event(values.device.type)
            self._copied.record()

    def read(self) -> list[float]:
        """The values. Waits until the device has computed them, but not for what was queued after them."""
        if self._read is None:
            if self._copied is not None:
                self._copied.synchronize()
            self._read = self._values.tolist()
        return self._read
