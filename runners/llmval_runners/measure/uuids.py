"""The names by which NVML finds the GPUs of torch: the indices of the two need not agree."""

import torch


def uuids_of(devices: list[torch.device]) -> list[str]:
    """UUIDs of the CUDA devices as NVML writes them; [] for a CPU."""
    found = [str(torch.cuda.get_device_properties(device).uuid) for device in devices if device.type == "cuda"]
    return [uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}" for uuid in found]
