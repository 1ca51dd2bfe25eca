"""Which devices a sweep runs on, and what identifies the machine in its results."""

import importlib.metadata
import platform
import socket
from typing import Any

import torch
from llmval_runners.measure.nvml_meter import NvmlMeter
from llmval_runners.process.errors import Refused


def devices_of(asked: str, indices: list[str] | None) -> list[torch.device]:
    """The devices that `--device` and `--devices` name.

    Raises:
        Refused: they are not there.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked == "cpu" or (asked == "auto" and count == 0):
        if indices:
            raise Refused("--devices names GPUs, and this run is on a CPU: leave --devices out, or pass --device cuda.")
        return [torch.device("cpu")]
    if count == 0:
        raise Refused(
            "--device cuda was asked for, and torch finds no CUDA device here: pass --device cpu, or repair the "
            "driver (nvidia-smi)."
        )
    chosen = range(count) if indices == ["all"] else dict.fromkeys(map(int, indices or ["0"]))
    if missing := [index for index in chosen if index >= count]:
        raise Refused(f"there is no GPU {missing[0]}: torch sees {count}, so pass --devices from 0 to {count - 1}.")
    return [torch.device("cuda", index) for index in chosen]


def uuids_of(devices: list[torch.device]) -> list[str]:
    """NVML's names of the CUDA devices; [] for a CPU."""
    found = [str(torch.cuda.get_device_properties(device).uuid) for device in devices if device.type == "cuda"]
    return [uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}" for uuid in found]


def identity_of(devices: list[torch.device], meter: Any) -> dict[str, Any]:
    """Host, GPUs and versions: what must be equal for two results to be compared."""
    gpus: list[dict[str, Any]] = []
    if isinstance(meter, NvmlMeter):
        gpus = meter.gpus()
    elif devices[0].type == "cuda":
        gpus = [
            {
                "index": device.index,
                "uuid": uuid,
                "name": torch.cuda.get_device_name(device),
                "driver": None,
                "power_limit_w": None,
            }
            for device, uuid in zip(devices, uuids_of(devices), strict=True)
        ]
    return {
        "host": socket.gethostname(),
        "host_gpu_uuids": meter.host_gpu_uuids() if isinstance(meter, NvmlMeter) else None,
        "gpus": gpus,
        "driver": gpus[0]["driver"] if gpus else None,
        "cpu": platform.processor() or platform.machine() if not gpus else None,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "transformer_engine": _version("transformer-engine"),
        "python": platform.python_version(),
        "power_source": getattr(meter, "power_source", None),
        "energy_scope": "GPU only: host, fans, network and cooling are not in it",
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
