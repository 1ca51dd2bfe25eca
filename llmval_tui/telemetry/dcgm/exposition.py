"""The answer of a dcgm-exporter as samples of GPUs. A value that it does not publish is None, and a note says why.

Field names and units are those of DCGM's API (dcgm_fields.h) and of the exporter's default-counters.csv. What differs
from NVML, and between versions of the exporter:

- the label of the node is `Hostname`, in newer versions `hostname`, and absent with --no-hostname;
- a field that DCGM cannot read is published as a *blank*, a very large number: it is not known;
- a GPU with MIG has a row for each instance instead of one;
- rows of NVLinks name the GPU `gpu_uuid`, and may be one for each link;
- a GPU that several pods or jobs share has the same row for each of them;
- an XID is the last one that the exporter has seen, however long ago;
- no row names a process, so foreign processes on a GPU cannot be seen.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmval_tui.telemetry.nvml.calls import throttle_names
from llmval_tui.telemetry.nvml.plausible import without_placeholders
from llmval_tui.telemetry.sample import GpuSample, Note

SOURCE = "dcgm"
_DEV, _PROF = "DCGM_FI_DEV_", "DCGM_FI_PROF_"
_MIB = 1 << 20
# DCGM_INT64_BLANK and above, which a float cannot tell apart; DCGM_FP64_BLANK and DCGM_INT32_BLANK with their kinds.
_INT64_BLANK = float(0x7FFFFFFFFFFFFFF0)
_FP64_BLANK, _INT32_BLANK, _BLANK_KINDS = 140737488355328.0, float(0x7FFFFFF0), 16

_LINE = re.compile(r"(\w+)\s*(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+(?:\.\d+)?)?\s*")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class _Field:
    """One value of a sample: the metrics that have it, the best first, each with what one unit of it is."""

    names: tuple[tuple[str, float], ...]
    whole: bool = False  # an integer
    added: bool = False  # the values of MIG instances and of links add up


def _one(name: str, factor: float = 1.0, *, whole: bool = False, added: bool = False) -> _Field:
    return _Field(((name, factor),), whole, added)


_SM_ACTIVE = _PROF + "SM_ACTIVE"
_FIELDS: dict[str, _Field] = {
    "sm_util_percent": _Field(((_SM_ACTIVE, 100.0), (_DEV + "GPU_UTIL", 1.0))),
    "sm_occupancy_percent": _one(_PROF + "SM_OCCUPANCY", 100.0),
    "tensor_util_percent": _one(_PROF + "PIPE_TENSOR_ACTIVE", 100.0),
    "dram_util_percent": _one(_PROF + "DRAM_ACTIVE", 100.0),
    "memory_used_bytes": _one(_DEV + "FB_USED", _MIB, whole=True, added=True),
    "memory_total_bytes": _one(_DEV + "FB_TOTAL", _MIB, whole=True, added=True),
    "power_w": _one(_DEV + "POWER_USAGE"),
    "power_instant_w": _one(_DEV + "POWER_USAGE_INSTANT"),
    "power_limit_w": _Field(((_DEV + "ENFORCED_POWER_LIMIT", 1.0), (_DEV + "POWER_MGMT_LIMIT", 1.0))),
    "energy_j": _one(_DEV + "TOTAL_ENERGY_CONSUMPTION", 1e-3),
    "temperature_c": _one(_DEV + "GPU_TEMP"),
    "sm_clock_mhz": _one(_DEV + "SM_CLOCK"),
    "memory_clock_mhz": _one(_DEV + "MEM_CLOCK"),
    "nvlink_tx_gb_per_s": _one(_PROF + "NVLINK_TX_BYTES", 1e-9, added=True),
    "nvlink_rx_gb_per_s": _one(_PROF + "NVLINK_RX_BYTES", 1e-9, added=True),
    "pcie_tx_gb_per_s": _one(_PROF + "PCIE_TX_BYTES", 1e-9),
    "pcie_rx_gb_per_s": _one(_PROF + "PCIE_RX_BYTES", 1e-9),
}
_REASONS = _Field(((_DEV + "CLOCKS_EVENT_REASONS", 1.0), (_DEV + "CLOCK_THROTTLE_REASONS", 1.0)), whole=True)
_XID = _one(_DEV + "XID_ERRORS", whole=True)
_FREE, _RESERVED = (_one(_DEV + name, _MIB, whole=True, added=True) for name in ("FB_FREE", "FB_RESERVED"))
_WANTED = frozenset(
    name for one in (*_FIELDS.values(), _REASONS, _XID, _FREE, _RESERVED) for name, _ in one.names
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Row:
    labels: Mapping[str, str]
    value: float | None  # None: a blank

    @property
    def instance(self) -> str | None:
        """The MIG instance of the row; None: the whole GPU."""
        return self.labels.get("GPU_I_ID") or None


_Hosts = dict[str | None, dict[str, dict[str, list[_Row]]]]
"""The rows by host (None: the row names none), GPU and metric."""


@dataclass(frozen=True, slots=True)
class NodeReading:
    """The GPUs of one node at one time. `driver` is None if no row names it."""

    gpus: list[GpuSample]
    notes: list[Note]
    driver: str | None = None


def read_dcgm(text: str, node: str, mono_ns: int = 0) -> dict[str, NodeReading]:
    """The GPUs in an exporter's answer, by the node that its rows name; `node` where they name none.

    Args:
        text: the answer, in Prometheus' text format.
        node: the name by which the exporter was asked.
        mono_ns: when it was asked, of the clock that energies are compared with.

    Raises:
        ValueError: the text is not such an answer, or names no GPU.
    """
    hosts: _Hosts = {}
    for name, row in _rows(text):
        labels = row.labels
        host = labels.get("hostname") or labels.get("Hostname") or None
        gpu = labels.get("UUID") or labels.get("gpu_uuid") or labels.get("uuid") or labels.get("gpu")
        if gpu:
            hosts.setdefault(host, {}).setdefault(gpu, {}).setdefault(name, []).append(row)
    named = _without_names(hosts, node)
    if not named:
        raise ValueError("it has no row of a GPU: is this a dcgm-exporter?")
    return {host: _reading(gpus, mono_ns) for host, gpus in sorted(named.items())}


def _without_names(hosts: "_Hosts", node: str) -> "dict[str, dict[str, dict[str, list[_Row]]]]":
    """Rows without a host's name belong to the one host that the others name: rows of links have fewer labels."""
    named = [host for host in hosts if host is not None]
    unnamed = hosts.pop(None, {})
    host = named[0] if len(named) == 1 else node
    for gpu, rows in unnamed.items():
        for name, found in rows.items():
            hosts.setdefault(host, {}).setdefault(gpu, {}).setdefault(name, []).extend(found)
    return {host: gpus for host, gpus in hosts.items() if host is not None}


def _rows(text: str) -> Iterable[tuple[str, _Row]]:
    """The rows that are needed; the other nine tenths of an answer are not looked at."""
    seen = False
    for line in text.splitlines():
        name = line.partition("{")[0].partition(" ")[0]
        seen = seen or name.startswith("DCGM_") or line.startswith("# HELP")
        if name not in _WANTED:
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"the line {line[:60]!r} is not in Prometheus' text format")
        labels = {key: _plain(value) for key, value in _LABEL.findall(match[2] or "")}
        yield name, _Row(labels, _known(_number(match[3], line)))
    if not seen:
        raise ValueError("it is not in Prometheus' text format")


def _number(text: str, line: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"the line {line[:60]!r} has no number") from None


def _plain(value: str) -> str:
    return _ESCAPED.sub(lambda match: "\n" if match[1] == "n" else match[1], value) if "\\" in value else value


def _known(value: float) -> float | None:
    """The value; None for a blank, and for what is not a number."""
    if not math.isfinite(value) or value >= _INT64_BLANK:
        return None
    return None if any(0 <= value - blank < _BLANK_KINDS for blank in (_FP64_BLANK, _INT32_BLANK)) else value


def _reading(gpus: Mapping[str, Mapping[str, list[_Row]]], mono_ns: int) -> NodeReading:
    notes: list[Note] = []
    samples = [_gpu(uuid, rows, at, mono_ns, notes) for at, (uuid, rows) in enumerate(gpus.items())]
    samples.sort(key=lambda sample: sample.index)
    labels = [row.labels for rows in gpus.values() for found in rows.values() for row in found]
    driver = next((label["DCGM_FI_DRIVER_VERSION"] for label in labels if label.get("DCGM_FI_DRIVER_VERSION")), None)
    with_mig = [at for at, rows in enumerate(gpus.values()) if _instances(rows)]
    if with_mig:
        text = "GPUs with MIG are read as the sum of their instances; shares of a whole GPU are not known."
        notes.append(Note(SOURCE, "mig", text))
    notes += _absent(samples)
    return NodeReading(samples, notes, driver)


def _instances(rows: Mapping[str, list[_Row]]) -> set[str]:
    return {row.instance for found in rows.values() for row in found if row.instance is not None}


def _gpu(uuid: str, rows: Mapping[str, list[_Row]], at: int, mono_ns: int, notes: list[Note]) -> GpuSample:
    labels = next(iter(rows.values()))[0].labels
    everything = [row.labels for found in rows.values() for row in found]
    number = next((label["gpu"] for label in everything if re.fullmatch(r"[0-9]{1,4}", label.get("gpu", ""))), None)
    values: dict[str, Any] = {name: _value(rows, one) for name, one in _FIELDS.items()}
    if values["memory_total_bytes"] is None:
        free, used, reserved = _value(rows, _FREE), values["memory_used_bytes"], _value(rows, _RESERVED)
        # A version that does not publish what the driver reserves leaves that out of the total.
        values["memory_total_bytes"] = None if free is None or used is None else free + used + (reserved or 0)
    if values["sm_util_percent"] is not None:
        values["sm_util_source"] = "gpm" if _value(rows, _one(_SM_ACTIVE)) is not None else "nvml"
    reasons, xid = _value(rows, _REASONS), _value(rows, _XID)
    index = int(number) if number is not None else at
    values["energy_mono_ns"] = mono_ns if values["energy_j"] is not None else None
    values["throttle_reasons"] = None if reasons is None or reasons < 0 else throttle_names(int(reasons))
    values, refused = without_placeholders(values)
    if refused:
        text = f"GPU {index}: the exporter publishes {', '.join(refused.values())}. No GPU has that."
        notes.append(Note(SOURCE, "implausible", f"{text} It counts as unknown."))
    return GpuSample(
        index=index,
        uuid=uuid if not uuid.isdecimal() else None,
        name=next((label["modelName"] for label in everything if label.get("modelName")), labels.get("modelName")),
        xid=int(xid) if xid and xid > 0 else None,
        **values,
    )


def _value(rows: Mapping[str, list[_Row]], field: _Field) -> float | int | None:
    """The value of a field: of the whole GPU, else of its instances as far as that means something."""
    for name, factor in field.names:
        found = rows.get(name)
        value = _together(found, field) if found else None
        if value is not None:
            return round(value * factor) if field.whole else value * factor
    return None


def _together(found: Sequence[_Row], field: _Field) -> float | None:
    whole = [row for row in found if row.instance is None]
    rows = whole or list(found)
    # The row without a link's number is the sum of the links.
    rows = [row for row in rows if "nvlink" not in row.labels] or rows
    # One row for each instance and link. Pods or jobs that share a GPU have the same row each; they agree, or were
    # read at different times.
    parts = {(row.instance, row.labels.get("nvlink")): row.value for row in rows}
    known = [value for value in parts.values() if value is not None]
    if not known or len(known) < len(parts):
        return None
    if field.added:
        return sum(known)
    # Power and temperature are repeated for every instance; utilisation is not, and has no sum.
    return known[0] if len(set(known)) == 1 else None


_WHY: tuple[tuple[str, Callable[[GpuSample], object], str], ...] = (
    (
        "throttle_reasons",
        lambda gpu: gpu.throttle_reasons,
        f"not published by default: add {_REASONS.names[0][0]} to the counters; until then throttling is unknown",
    ),
    (
        "sm_util_percent",
        lambda gpu: gpu.sm_util_percent if gpu.sm_util_source == "gpm" else None,
        f"dcgm-exporter leaves {_SM_ACTIVE} out by default; without it the share of time with any kernel is shown",
    ),
    (
        "tensor_util_percent, dram_util_percent",
        lambda gpu: gpu.dram_util_percent,
        "DCGM's profiling needs root, a GPU that has it, and no other profiler at work",
    ),
    (
        "nvlink_tx_gb_per_s, nvlink_rx_gb_per_s",
        lambda gpu: gpu.nvlink_tx_gb_per_s,
        f"dcgm-exporter leaves {_PROF}NVLINK_TX_BYTES and {_PROF}NVLINK_RX_BYTES out by default",
    ),
    ("power_limit_w", lambda gpu: gpu.power_limit_w, f"add {_DEV}ENFORCED_POWER_LIMIT to the exporter's counters"),
)


def _absent(samples: Sequence[GpuSample]) -> list[Note]:
    """Why values are missing on every GPU, and what an exporter never has."""
    notes = [
        Note(SOURCE, "not_published", f"{name}: {why}.")
        for name, value, why in _WHY
        if all(value(gpu) is None for gpu in samples)
    ]
    notes.append(Note(SOURCE, "not_published", "processes: an exporter names none, so foreign ones are not seen."))
    if any(gpu.xid for gpu in samples):
        notes.append(Note(SOURCE, "last_xid", "An XID is the last one that the exporter has seen, however long ago."))
    return notes
