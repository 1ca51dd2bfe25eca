"""Measures one length on this rank, and gathers every rank's figures into the entry of the result."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from llmval_runners.engine.parallel import Parallel
from llmval_runners.long_context.engine_adapter import Context, Weights
from llmval_runners.long_context.measure.energy import EnergyMeter, energy_json
from llmval_runners.long_context.measure.memory import NvmlMemory, Peaks, PeakWatch
from llmval_runners.long_context.measure.timing import RunControl, Timing, prompts, time_length
from llmval_runners.long_context.predict.peak_memory import predict
from llmval_runners.long_context.record import decode_json, prefill_json, rank_memory
from llmval_runners.long_context.settings import Settings

_MEMORY = ("weights_bytes", "kv_bytes", "allocated_peak_bytes", "reserved_peak_bytes", "nvml_peak_bytes")


class LengthRun:
    """`measure` returns the entry of the result, and the context with the prompts still in its cache."""

    def __init__(
        self,
        weights: Weights,
        length: int,
        settings: Settings,
        energy: EnergyMeter,
        nvml: NvmlMemory,
        control: RunControl,
    ) -> None:
        self.weights, self.length, self.settings, self.control = weights, length, settings, control
        self._energy, self._nvml = energy, nvml
        setup = settings.setup
        self.following = prompts(1, setup.decode_tokens, setup.shape.vocab, settings.options.seed + 1)[0]

    def measure(
        self, enter_phase: Callable[[str], None], on_context: Callable[[Weights, Context], None]
    ) -> tuple[dict[str, Any], Context]:
        """`on_context` is called as soon as the context has its memory, before any work."""
        device = self.settings.device
        watch = PeakWatch(device, self._nvml).start()
        try:
            self.control.begin("the KV cache, its executor and its decode graphs")
            context = Context(self.weights, self.length, self.settings.backend)
            on_context(self.weights, context)
            setup = self.settings.setup  # prompts after the cache: a length that does not fit fails at once
            self.sequences = prompts(setup.batch, self.length, setup.shape.vocab, self.settings.options.seed)
            one_layer = self.settings.options.warm_up == "one-layer"
            times = time_length(context, self.sequences, self._energy, self.control, enter_phase, one_layer)
        finally:
            peaks = watch.stop()
        return self._entry(times, peaks, context), context

    def _entry(self, times: Timing, peaks: Peaks, context: Context) -> dict[str, Any]:
        setup, length = self.settings.setup, self.length
        own = (self.weights.bytes, context.cache.bytes_per_rank, peaks.allocated, peaks.reserved, peaks.nvml_used)
        parallel = self.weights.parallel
        gpu = torch.cuda.get_device_name(self.settings.device) if self.settings.device.type == "cuda" else None
        parts = predict(setup, length)
        ranks = gather_ranks(parallel, own)
        joules = gather_ranks(parallel, (times.prefill_joules[0], times.decode_joules[0]))
        prefill_energy = energy_json(
            [rank[0] for rank in joules], times.prefill_s, setup.batch * length, times.prefill_joules[1]
        )
        decode_energy = energy_json(
            [rank[1] for rank in joules], times.decode_wall_s, setup.decode_tokens * setup.batch, times.decode_joules[1]
        )
        return {
            "status": "passed",
            "memory": [
                rank_memory(rank, _whole(dict(zip(_MEMORY, values, strict=True))), parts, peaks.missing)
                for rank, values in enumerate(ranks)
            ],
            "prefill": prefill_json(setup, length, gpu, times.prefill_s, times.ttft_s) | {"energy": prefill_energy},
            "decode": decode_json(setup, length, gpu, times.decode_json()) | {"energy": decode_energy},
        }


def gather_ranks(parallel: Parallel, values: Sequence[float | None]) -> list[list[float | None]]:
    """Every rank's values, by rank. float64 holds bytes exactly up to 8 PiB; None travels as NaN."""
    own = torch.tensor([math.nan if value is None else value for value in values], dtype=torch.float64)
    ranks = parallel.all_gather(own.to(parallel.device)).tolist()
    return [[None if math.isnan(value) else value for value in rank] for rank in ranks]


def _whole(values: dict[str, float | None]) -> dict[str, int | None]:
    return {name: None if value is None else int(value) for name, value in values.items()}
