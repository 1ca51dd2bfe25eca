"""How much memory a device has left."""

import os
from pathlib import Path

import torch


def free_memory(device: torch.device) -> int:
    """Free bytes of the device. On a CPU: the kernel's MemAvailable, divided by the number of ranks on this node."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024 // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    raise OSError("/proc/meminfo has no line MemAvailable")
