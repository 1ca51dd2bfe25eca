"""The devices of a sweep, and the identity of the machine in its results."""

import importlib.metadata
import platform
import socket
from typing import Any

import torch
from llmval_runners.measure.nvml_meter import NoMeter, NvmlMeter, PowerMeter
from llmval_runners.measure.uuids import uuids_of
from llmval_runners.process.errors import Refused


def devices_of(device: str, indices: list[str] | None) -> list[torch.device]:
    """The devices named by `--device` and `--devices`.

    Raises:
        Refused: one of them does not exist.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "cpu" or (device == "auto" and count == 0):
        if indices:
            raise Refused("--devices names GPUs, but this run is on a CPU: leave --devices out, or pass --device cuda.")
        return [torch.device("cpu")]
    if count == 0:
        raise Refused(
            "--device cuda was given, but torch finds no CUDA device here: pass --device cpu, or repair the "
            "driver (nvidia-smi)."
        )
    chosen = range(count) if indices == ["all"] else dict.fromkeys(map(int, indices or ["0"]))
    if missing := [index for index in chosen if index >= count]:
        raise Refused(f"there is no GPU {missing[0]}: torch sees {count}, so pass --devices from 0 to {count - 1}.")
    return [torch.device("cuda", index) for index in chosen]


def identity_of(devices: list[torch.device], meter: PowerMeter | NoMeter) -> dict[str, Any]:
    """Host, GPUs and versions. Two results can only be compared if these are equal."""
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
