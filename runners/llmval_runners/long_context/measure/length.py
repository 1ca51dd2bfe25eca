"""One length measured on this rank, and every rank's figures gathered into its entry of the result."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from llmval_runners.engine.parallel import Parallel
from llmval_runners.long_context.engine_adapter import Context, Weights
from llmval_runners.long_context.measure import energy
from llmval_runners.long_context.measure.energy import Energy
from llmval_runners.long_context.measure.memory import Nvml, Peaks, Watch
from llmval_runners.long_context.measure.timing import Report, Timed, prompts, timed
from llmval_runners.long_context.predict.peak_memory import predict
from llmval_runners.long_context.record import decode_json, prefill_json, rank_memory
from llmval_runners.long_context.settings import Settings

_MEMORY = ("weights_bytes", "kv_bytes", "allocated_peak_bytes", "reserved_peak_bytes", "nvml_peak_bytes")


class LengthRun:
    """`measure` gives the entry and the context, whose cache still holds the prompts."""

    def __init__(
        self, weights: Weights, length: int, settings: Settings, energy: Energy, nvml: Nvml, report: Report
    ) -> None:
        self.weights, self.length, self.settings, self.report = weights, length, settings, report
        self._energy, self._nvml = energy, nvml
        setup = settings.setup
        self.following = prompts(1, setup.decode_tokens, setup.shape.vocab, settings.options.seed + 1)[0]

    def measure(
        self, phase: Callable[[str], None], sized: Callable[[Weights, Context], None]
    ) -> tuple[dict[str, Any], Context]:
        device = self.settings.device
        watch = Watch(device, self._nvml).start()
        try:
            self.report.at("the KV cache, its executor and its decode graphs")
            context = Context(self.weights, self.length, self.settings.backend)
            sized(self.weights, context)
            setup = self.settings.setup  # after the cache: a length that does not fit is found out at once
            self.sequences = prompts(setup.batch, self.length, setup.shape.vocab, self.settings.options.seed)
            thin = self.settings.options.warm_up == "one-layer"
            times = timed(context, self.sequences, self._energy, self.report, phase, thin)
        finally:
            peaks = watch.stop()
        return self._entry(times, peaks, context), context

    def _entry(self, times: Timed, peaks: Peaks, context: Context) -> dict[str, Any]:
        setup, length = self.settings.setup, self.length
        own = (self.weights.bytes, context.cache.bytes_per_rank, peaks.allocated, peaks.reserved, peaks.nvml_used)
        parallel = self.weights.parallel
        gpu = torch.cuda.get_device_name(self.settings.device) if self.settings.device.type == "cuda" else None
        parts = predict(setup, length)
        ranks = gathered(parallel, own)
        joules = gathered(parallel, (times.prefill_joules[0], times.decode_joules[0]))
        steps_s = setup.decode_tokens * setup.batch
        return {
            "status": "passed",
            "memory": [
                rank_memory(rank, _whole(dict(zip(_MEMORY, values, strict=True))), parts, peaks.missing)
                for rank, values in enumerate(ranks)
            ],
            "prefill": prefill_json(setup, length, gpu, times.prefill_s, times.ttft_s)
            | {
                "energy": energy.record(
                    [rank[0] for rank in joules], times.prefill_s, setup.batch * length, times.prefill_joules[1]
                )
            },
            "decode": decode_json(setup, length, gpu, times.decode_json())
            | {
                "energy": energy.record(
                    [rank[1] for rank in joules], times.decode_wall_s, steps_s, times.decode_joules[1]
                )
            },
        }


def gathered(parallel: Parallel, values: Sequence[float | None]) -> list[list[float | None]]:
    """Every rank's values, by rank. float64 holds bytes exactly up to 8 PiB; what is not known travels as NaN."""
    own = torch.tensor([math.nan if value is None else value for value in values], dtype=torch.float64)
    ranks = parallel.all_gather(own.to(parallel.device)).tolist()
    return [[None if math.isnan(value) else value for value in rank] for rank in ranks]


def _whole(values: dict[str, float | None]) -> dict[str, int | None]:
    return {name: None if value is None else int(value) for name, value in values.items()}
