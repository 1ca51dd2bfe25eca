"""The engine benchmark from start to end: ceilings, then an engine for each precision, backend and all-reduce."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from llmval_runners.benchmark import collectives as benchmark_collectives
from llmval_runners.benchmark.bench import STEPS, Bench, Sizes
from llmval_runners.benchmark.last_screen import last_screen, verdict_of
from llmval_runners.benchmark.options import BenchmarkOptions
from llmval_runners.benchmark.rows import rows_of
from llmval_runners.engine import loader
from llmval_runners.engine.config import EngineConfig, configure, model_shape
from llmval_runners.engine.engine import PlanChannel
from llmval_runners.engine.kernels import all_reduce
from llmval_runners.engine.kv_cache import pages_for
from llmval_runners.engine.parallel import Parallel
from llmval_runners.engine.settings import EngineSettings, FlagNames
from llmval_runners.engine.weights import random_weights
from llmval_runners.measure.ceilings import ceilings
from llmval_runners.process.errors import FAILED_EXIT, Refused, ended_by
from llmval_runners.process.events import EventLog
from llmval_runners.process.files import check_writable
from llmval_runners.process.output import FLAG, OutputFile, show, where_of
from llmval_runners.process.rank_main import Rank
from llmval_runners.process.record import RunRecord
from llmval_runners.process.shutdown import StopSignals

SCHEMA_VERSION = 1
FP8_MODES = {"fp8": "native", "fp8-weights": "native", "transformer-engine": "transformer-engine"}
FP8_KV = ("fp8", "transformer-engine")
_SIZES = "--batches, --context, --prompts, --prompt or --long"


def flag_names(precision: str) -> FlagNames:
    """The names of the engine's settings in this runner. `precision`: the value of --precisions for this engine."""
    smaller = f"smaller {_SIZES}"
    return FlagNames(
        fp8=f"--precisions {precision}",
        without_fp8="--precisions bf16",
        native_fp8="--precisions fp8",
        fp8_cache=f"--precisions {precision}",
        without_fp8_cache="--precisions bf16",
        ranks="--tensor-parallel-gpus",
        smaller_cache=smaller,
        larger_cache=smaller,
        shorter_requests=smaller,
        less_memory=f"a smaller --chunk, {_SIZES}",
        or_checkpoint="",
        tiny_model="--model tiny to try it on a CPU",
    )


class Interrupted(Exception):
    """A stop signal arrived."""


class Benchmark:
    """One rank's benchmark. All ranks run it in lock-step; rank 0 prints and writes."""

    def __init__(self, options: BenchmarkOptions, events: EventLog, place: Rank) -> None:
        """Decide everything without heavy work. Raises Refused."""
        self.options, self.events = options, events
        self.place, self.rank, self.world_size = place, place.rank, place.world_size
        self.sizes = Sizes(
            options.batches, options.context, options.prompts, options.prompt, options.chunk, options.long,
            requests=2 * max(options.batches) + 64, short=max(2, options.prompt // 8),
            output=max(2, options.context // 4),
        )  # fmt: skip
        on_cpu = options.device == "cpu" or not torch.cuda.is_available()
        self.precisions = ["float32"] if on_cpu else options.precisions
        self.all_reduces = self._all_reduces(on_cpu)
        self._check_compile()
        self.configs = {
            (precision, backend): self._config(precision, backend)
            for precision in self.precisions
            for backend in options.backends
        }
        path = options.output_json
        if path is not None:
            check_writable(path, FLAG)
        self.file = OutputFile(path) if path is not None and place.rank == 0 else None
        self.stop = StopSignals(lambda number: self.save_partial(ended_by(number)))
        self.limits: dict[str, float] = {}
        self.record = RunRecord(self.file, self.stop, events)
        self.rows: list[dict[str, Any]] = []
        self.kernels: dict[str, str] = {}  # attention kernels by backend and precision
        self.fp8_kernels: dict[str, str] = {}  # by precision

    def run(self) -> int:
        """Measure, write the record, show it and return the exit code. Raises Refused or RankLost."""
        self.stop.install()
        try:
            return self._run()
        except Interrupted:
            self.save_partial(ended_by(self.stop.number))
            return self.stop.exit_code

    def _run(self) -> int:
        first = next(iter(self.configs.values()))
        device = first.device
        torch.set_grad_enabled(False)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        parallel = Parallel(device, self.rank, self.world_size)
        self.events.phase("setup", "ceilings of this device")
        # All ranks wait for the slowest one in each step, so the lowest ceilings count.
        limits = self.limits = {
            name: float(parallel.min_over_ranks(int(value))) for name, value in ceilings(device, first.dtype).items()
        }
        self._print("  ".join(f"{name} {value:.4g}" for name, value in limits.items()))
        if self.world_size > 1 and device.type == "cuda" and (why := parallel.symmetric_memory_error()):
            self._print(f"only NCCL is compared: {why}")
        if "all_reduce" in self.options.rows:
            for row in benchmark_collectives.table(parallel, first.dtype, self.options.repeats):
                self._done(row)
        engines = [
            (precision, backend, choice)
            for precision, backend in self.configs
            for choice in self.all_reduces
            if self.options.rows != ["all_reduce"]
        ]
        for index, (precision, backend, choice) in enumerate(engines):
            parallel.use_all_reduce(choice)
            self._engine(precision, backend, parallel, limits)
            self.events.progress(index + 1, len(engines), "engines")
            if device.type == "cuda":
                torch.cuda.empty_cache()
        code = self._write()
        parallel.close()  # wait until rank 0 has written: the first rank that exits ends the others
        return code

    def _engine(self, precision: str, backend: str, parallel: Parallel, limits: dict[str, float]) -> None:
        """Load one engine and measure all its rows."""
        config = self.configs[precision, backend]
        self.events.phase("load", f"{config.shape.name}, {precision}, {backend}")
        runner = loader.load(config, random_weights(self.options.seed, config.device), parallel)
        _fill(runner.cache.pool)
        self.kernels[f"{backend} {precision}"] = runner.attention.kernel
        if (products := loader.fp8_kernel(runner.model)) is not None:
            self.fp8_kernels[precision] = products
        if runner.compiled is not None:
            made = runner.compiled.as_json()
            self._print(f"compiled {made['what']}: {made['graphs']} graphs in {made['first_calls_s']:.1f} s")
        table = config.shape.vocab * config.shape.hidden * config.dtype.itemsize
        bench = Bench(
            PlanChannel(runner, max_batch=config.max_batch), parallel, config.shape, self.sizes,
            {"backend": backend, "precision": precision}, config.weight_bytes_per_rank - table, limits,
            self.options.repeats, self.options.seed,
        )  # fmt: skip
        self.events.phase("measure", f"{precision}, {backend}")
        with torch.inference_mode():
            rows_of(bench, self.options.rows, self._done)

    def _all_reduces(self, on_cpu: bool) -> list[str]:
        asked = self.options.all_reduce
        if asked is not None and self.world_size == 1:
            raise Refused(
                "--all-reduce compares ways to sum over several ranks: pass --tensor-parallel-gpus, or leave it out."
            )
        if on_cpu and asked and asked != [all_reduce.NCCL]:
            raise Refused(
                "one-shot and two-shot all-reduces need GPUs, and this run is on a CPU: leave --all-reduce out."
            )
        if "all_reduce" in self.options.rows and self.world_size == 1:
            raise Refused("the row all_reduce needs several ranks: pass --tensor-parallel-gpus 2, or leave it out.")
        return asked or [all_reduce.from_environment()]

    def _check_compile(self) -> None:
        mode, wrong = self.options.compile_mode, [name for name in self.precisions if name in FP8_MODES]
        if mode != "off" and wrong:
            raise Refused(
                f"--compile-mode {mode} compiles the engine in bfloat16 only, and --precisions has {', '.join(wrong)}: "
                "pass --precisions bf16 with it."
            )

    def _print(self, line: str) -> None:
        self.events.say(line)

    def _done(self, row: dict[str, Any]) -> None:
        """Keep and print a row. Raises Interrupted after a stop signal."""
        if self.rank != 0:
            return
        self.rows.append(row)
        self.record.so_far(lambda: self._record("not all rows are measured"))
        if self.stop.number is not None:
            raise Interrupted
        if row["row"] == "all_reduce":
            self._print(
                f"all_reduce {row['all_reduce']:9} {row['bytes']:9,} bytes {row['value']:9.2f} us, algbw "
                f"{row['bytes_per_s'] / 1e9:.1f} GB/s, busbw {row['busbw_gb_per_s']:.1f} GB/s"
            )
            return
        shares = ("of_copy", "of_gemm", "of_gemm_fp8", "of_modelled")
        share = next((f"{row[key]:6.1%} {key[3:]}" for key in shares if key in row), "")
        rate = f"{row['tokens_per_s']:12,.0f} tok/s" if "tokens_per_s" in row else " " * 18
        if "roofline" in row:
            model = row["roofline"]
            least = f" (to reach: {row['bound']:.0%})" if "bound" in row else ""
            share += (
                f"; {row['all_reduce']}, {row['of_roofline']:.1%} of {model['step_ms']:.3f} ms modelled = "
                f"{model['memory_ms']:.3f} memory + {model['all_reduce_ms']:.3f} all-reduces{least}"
            )
        self._print(
            f"{row['row']:13} {row['backend']:5} {row['precision']:18} batch {row['batch']:4} context "
            f"{row['context']:6} {row['value']:12.3f} {row['unit']:10} {rate}  {share}"
        )

    def _write(self) -> int:
        if self.rank != 0:
            return 0
        record = self.record.complete(lambda: self._record(None))
        return int(record["verdict"]["exit_code"]) if self._show(record, self.options.output_json) else FAILED_EXIT

    def save_partial(self, why: str) -> None:
        """Save the rows so far beside the path of the record, and show them."""
        if self.rank == 0 and (saved := self.record.early(lambda: self._record(why))):
            self._show(*saved)

    def _show(self, record: dict[str, Any], path: Path | None) -> bool:
        self.events.clear()
        where = where_of(path, self.file)
        return show(self.options.report, record, record["verdict"], lambda: last_screen(record, where))

    def _record(self, early: str | None) -> dict[str, Any]:
        config = next(iter(self.configs.values()))
        on_cuda = config.device.type == "cuda"
        return {
            "schema": SCHEMA_VERSION,
            "kind": "engine_benchmark",
            "partial": early is not None,
            "verdict": verdict_of(self.rows, early).as_json(),
            "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "model": config.shape.name,
            "parameters": config.shape.parameters,
            "device": torch.cuda.get_device_name(config.device) if on_cuda else "CPU",
            "torch_version": torch.__version__,
            "tensor_parallel": self.world_size,
            "repeats": self.options.repeats,
            "chunk": self.sizes.chunk,
            "compile_mode": self.options.compile_mode,
            "peak_allocated_bytes": torch.cuda.max_memory_allocated(config.device) if on_cuda else None,
            "ceilings": self.limits,
            "attention_kernels": self.kernels,
            "fp8_kernels": self.fp8_kernels,
            "rows": self.rows,
        }

    def describe_error(self, error: Exception) -> str:
        return str(error)

    def finish(self) -> None:
        """Tell the signal guard that the record is written."""
        if self.file is not None:
            self.file.release()
        self.stop.done()

    def _config(self, precision: str, backend: str) -> EngineConfig:
        sizes, options = self.sizes, self.options
        page = 128 if precision != "float32" else 16
        batch, rows = max(sizes.batches), {*options.rows}
        served = 2 * (sizes.short + sizes.output)  # tokens; more than the longest request of the saturated row
        loads = [
            (batch, sizes.context + STEPS, rows & {"decode", "attention"}),
            (sizes.prompts, sizes.prompt, rows & {"prefill"}),
            (1, sizes.long + STEPS, rows & {"long", "attention"}),
            (batch, max(served, sizes.context) + STEPS, rows & {"saturated"}),
            (1, 1, rows & {"all_reduce"}),
        ]
        pages = max(count * pages_for(tokens, page) for count, tokens, chosen in loads if chosen)
        longest = max(tokens for _, tokens, chosen in loads if chosen)
        flags = flag_names(precision)
        settings = EngineSettings(
            model=options.model,
            device=options.device,
            kv_dtype="fp8" if precision in FP8_KV else "auto",
            fp8_mode=FP8_MODES.get(precision, "none"),
            compile_mode=options.compile_mode,
            attention_backend=backend,
            max_batch=max(*sizes.batches, sizes.prompts),
            prefill_chunk=sizes.chunk,
            page_size=page,
            kv_tokens=pages * page,
            seed=options.seed,
        )
        shape = model_shape(settings, flags)
        return configure(
            settings, shape, longest, world_size=self.world_size, local_rank=self.place.local_rank,
            local_ranks=self.place.local_world_size, flags=flags,
        )  # fmt: skip


def _fill(pool: torch.Tensor) -> None:
    """Fill the cache with normal random keys and values: zeros are read faster, and their softmax is unrealistic."""
    for layer in pool:
        layer.copy_(torch.randn(layer.shape, device=pool.device))
