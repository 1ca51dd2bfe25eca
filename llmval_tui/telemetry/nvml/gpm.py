"""GPU performance monitoring (GPM): utilisation and traffic as rates between two samples; Hopper and later."""

import math
from typing import Any

from llmval_tui.telemetry.nvml.calls import Calls, Fault

_MIB = 1024 * 1024
# Metric (NVML_GPM_METRIC_* in nvml.h) → field of GpuSample, factor to its unit. NVML gives 0–100 % and MiB/s.
_METRICS: dict[int, tuple[str, float]] = {
    2: ("sm_util_percent", 1.0),  # SM_UTIL
    3: ("sm_occupancy_percent", 1.0),  # SM_OCCUPANCY
    5: ("tensor_util_percent", 1.0),  # ANY_TENSOR_UTIL
    10: ("dram_util_percent", 1.0),  # DRAM_BW_UTIL
    20: ("pcie_tx_gb_per_s", _MIB / 1e9),  # PCIE_TX_PER_SEC, from this GPU
    21: ("pcie_rx_gb_per_s", _MIB / 1e9),  # PCIE_RX_PER_SEC, to this GPU
    60: ("nvlink_rx_gb_per_s", _MIB / 1e9),  # NVLINK_TOTAL_RX_PER_SEC
    61: ("nvlink_tx_gb_per_s", _MIB / 1e9),  # NVLINK_TOTAL_TX_PER_SEC
}
_METRICS_GET_VERSION = 1


class Gpm:
    """Two GPM samples of one GPU; each reading (0.15 ms) overwrites the older one."""

    def __init__(self, calls: Calls, handle: Any) -> None:
        """
        Raises:
            Fault: the GPU, the driver or the binding has no GPM.
        """
        self._calls = calls
        self._handle = handle
        if not calls("nvmlGpmQueryDeviceSupport", handle).isSupportedDevice:
            raise Fault("nvmlGpmQueryDeviceSupport", 3)
        self._request = calls("c_nvmlGpmMetricsGet_t")
        self._older: Any = calls("nvmlGpmSampleAlloc")
        try:
            self._newer: Any = calls("nvmlGpmSampleAlloc")
        except Fault:
            calls.optional("nvmlGpmSampleFree", self._older)
            raise
        self._newer_ns: int | None = None
        self._last: dict[str, float | None] = {}
        self._complete = False

    @property
    def waiting(self) -> bool:
        """Whether there has been no complete pair of samples yet, so that GPM's available metrics are unknown."""
        return not self._complete

    def read(self, now_ns: int) -> dict[str, float | None]:
        """The metrics since the previous call; empty at the first call, and repeated if no time has passed.

        Metrics that the GPU does not have are left out; a metric that is NaN or infinite is None.

        Raises:
            Fault: NVML could not take the sample or compute the metrics.
        """
        if self._newer_ns is not None and now_ns <= self._newer_ns:
            return self._last
        self._calls("nvmlGpmSampleGet", self._handle, self._older)
        self._older, self._newer = self._newer, self._older
        first, self._newer_ns = self._newer_ns is None, now_ns
        if first:
            return {}
        request = self._request
        request.version, request.numMetrics = _METRICS_GET_VERSION, len(_METRICS)
        request.sample1, request.sample2 = self._older, self._newer
        for position, metric_id in enumerate(_METRICS):
            request.metrics[position].metricId = metric_id
        self._calls("nvmlGpmMetricsGet", request)
        self._last, self._complete = {}, True
        for position, (name, factor) in enumerate(_METRICS.values()):
            metric = request.metrics[position]
            if metric.nvmlReturn == 0:
                self._last[name] = metric.value * factor if math.isfinite(metric.value) else None
        return self._last

    def close(self) -> None:
        """Free both samples."""
        for sample in (self._older, self._newer):
            self._calls.optional("nvmlGpmSampleFree", sample)
