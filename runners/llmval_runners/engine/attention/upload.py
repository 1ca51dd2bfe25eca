"""Host values to a device without waiting for the device."""

from typing import Any

import torch


def upload(values: Any, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Nested lists, or a CPU tensor, as a tensor on `device`.

    From pinned memory: a copy from pageable memory first waits for all that the stream still has to do.
    """
    host = torch.as_tensor(values, dtype=dtype)
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host.to(device)
