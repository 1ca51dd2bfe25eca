"""The configuration of a node: one flat table, so that nodes can be compared key by key.

It is made of what every run records before its start (`run.json`: host, versions, environment). `collect` reads the
same of this node now.
"""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmval_tui.runs.inventory import gpu_inventory, host_inventory, recorded_environment, software_versions
from llmval_tui.runs.records import Intent

Value = str | float | int | None
ENVIRONMENT = "env."  # what the key of an environment variable begins with
_GIB = 2**30

# The order of the table: what a node lacks comes before what it has in another version.
KEYS = (
    "gpu_count", "gpu", "nvlink_active", "nvlink_links", "driver", "power_limit_w", "ecc", "mig", "vbios",
    "sm_clock_max_mhz", "sm_clock_application_mhz", "memory_clock_max_mhz", "persistence", "gpu_memory_gib",
    "cuda_driver", "nic_count", "nic_ports_active", "nic_rate", "nic_firmware", "kernel", "machine", "cpu", "cpu_count",
    "memory_gib", "llmval", "python", "torch", "nvidia-nccl-cu13",
)  # fmt: skip


def collect(runner_python: str) -> dict[str, Value]:
    """The configuration of this node, read now.

    Raises:
        OSError, subprocess.SubprocessError: the runners' Python cannot be asked.
    """
    host = {**host_inventory(), "gpu": gpu_inventory()}
    return configuration(host, software_versions(runner_python), recorded_environment(os.environ))


def of_intent(intent: Intent) -> dict[str, Value]:
    """The configuration that a run recorded before its start; empty if it recorded none."""
    return configuration(intent.host, intent.versions, intent.environment) if intent.host else {}


def configuration(
    host: Mapping[str, Any], versions: Mapping[str, str], environment: Mapping[str, str]
) -> dict[str, Value]:
    """One flat table. None: not known. A variable that is not set has no key.

    Args:
        host: `host_inventory()` with the inventory of the GPUs as `gpu`.
        versions: `software_versions()`.
        environment: `recorded_environment()`.
    """
    inventory = host.get("gpu")
    inventory = inventory if isinstance(inventory, Mapping) else {}
    gpus = [gpu for gpu in inventory.get("gpus") or [] if isinstance(gpu, Mapping)]
    nics = host.get("nics")
    found: dict[str, Value] = {
        "gpu_count": _gpu_count(inventory, gpus),
        "gpu": _each(gpus, "name"),
        "driver": inventory.get("driver_version"),
        "cuda_driver": inventory.get("cuda_driver_version"),
        "power_limit_w": _each(gpus, "power_limit_w"),
        "ecc": _each(gpus, "ecc_enabled", _switch),
        "mig": _each(gpus, "mig_enabled", _switch),
        "persistence": _each(gpus, "persistence_enabled", _switch),
        "vbios": _each(gpus, "vbios_version"),
        "sm_clock_max_mhz": _each(gpus, "sm_clock_max_mhz"),
        "sm_clock_application_mhz": _each(gpus, "sm_clock_application_mhz"),
        "memory_clock_max_mhz": _each(gpus, "memory_clock_max_mhz"),
        "gpu_memory_gib": _each(gpus, "memory_total_bytes", _gib),
        "nvlink_links": _each(gpus, "nvlink_links"),
        "nvlink_active": _each(gpus, "nvlink_links_active"),
        "kernel": host.get("kernel"),
        "machine": host.get("machine"),
        "cpu": host.get("cpu"),
        "cpu_count": host.get("cpu_count"),
        "memory_gib": _gib(host.get("memory_bytes")),
        **_nics(nics if isinstance(nics, Sequence) else None),
        **versions,
    }
    for name, value in environment.items():
        found[ENVIRONMENT + name] = value
    return {key: found[key] for key in sorted(found, key=order)}


def order(key: str) -> tuple[int, str]:
    """The place of a key in the table: the known ones, then other packages, then the environment."""
    if key in KEYS:
        return KEYS.index(key), key
    return len(KEYS) + key.startswith(ENVIRONMENT), key


def _gpu_count(inventory: Mapping[str, Any], gpus: Sequence[Mapping[str, Any]]) -> int | None:
    """The GPUs that answer: a lost one is still listed by the driver, without a name."""
    if not gpus:
        count = inventory.get("gpu_count")
        return count if isinstance(count, int) else 0 if inventory.get("notes") else None
    return sum(gpu.get("name") is not None for gpu in gpus)


def _each(gpus: Sequence[Mapping[str, Any]], key: str, text: Callable[[Any], Value] | None = None) -> Value:
    """What all GPUs have; where some differ, what most have and then the others: `18; GPU 6: 14`."""
    values = [gpu.get(key) for gpu in gpus]
    shown = [None if value is None else text(value) if text is not None else value for value in values]
    if not shown:
        return None
    common = Counter(shown).most_common(1)[0][0]
    others = [
        f"GPU {gpu.get('index')}: {'n/a' if value is None else value}"
        for gpu, value in zip(gpus, shown, strict=True)
        if value != common
    ]
    if not others:
        return common
    return "; ".join([str("n/a" if common is None else common), *others])


def _switch(value: Any) -> str:
    return "on" if value else "off"


def _gib(value: Any) -> float | None:
    """Whole GiB: the kernel and the driver keep a little, and not always the same."""
    return round(value / _GIB) if isinstance(value, int | float) else None


def _nics(nics: Sequence[Any] | None) -> dict[str, Value]:
    """The network adapters with verbs (InfiniBand, RoCE); none at all: 0 of them."""
    if nics is None:
        return {}
    ports = [port for nic in nics for port in nic.get("ports", [])]
    return {
        "nic_count": len(nics),
        "nic_ports_active": sum("ACTIVE" in str(port.get("state")) for port in ports),
        "nic_rate": _counted([port.get("rate") for port in ports]),
        "nic_firmware": _counted([nic.get("firmware") for nic in nics]),
    }


def _counted(values: Sequence[Any]) -> str | None:
    """`400 Gb/sec (4X NDR)` if all are equal, else `7 × 400 …, 1 × 200 …`."""
    counts = Counter(str(value) for value in values if value is not None)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{count} × {value}" for value, count in sorted(counts.items())) or None
