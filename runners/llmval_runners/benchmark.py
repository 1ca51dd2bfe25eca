"""The engine benchmark from start to end: ceilings, then an engine for each precision and backend, rows, table."""

import argparse
from datetime import UTC, datetime
from typing import Any

import torch
from llmval_runners import executor
from llmval_runners.benchmark_rows import STEPS, Bench, Sizes, rows_of
from llmval_runners.ceilings import ceilings
from llmval_runners.configure import Config, configure
from llmval_runners.events import EventLog
from llmval_runners.kv_cache import pages_for
from llmval_runners.options import parse as load_test_options
from llmval_runners.parallel import Parallel
from llmval_runners.refusal import Refused
from llmval_runners.result import write_atomic
from llmval_runners.weights import random_weights

SCHEMA_VERSION = 1
FP8_MODES = {"fp8": "native", "fp8-weights": "native", "transformer-engine": "transformer-engine"}
FP8_KV = ("fp8", "transformer-engine")


class Benchmark:
    """One rank's benchmark. Only a single rank times the engine's own loop; more ranks are refused."""

    def __init__(self, options: argparse.Namespace, events: EventLog, *, world_size: int) -> None:
        """Decides everything, does nothing heavy; raises Refused."""
        if world_size > 1:
            raise Refused("the engine benchmark measures one GPU in this release: start it without torchrun.")
        self.options, self.events = options, events
        self.sizes = Sizes(
            options.batches, options.context, options.prompts, options.prompt, options.chunk, options.long,
            requests=2 * max(options.batches) + 64, short=max(2, options.prompt // 8),
            output=max(2, options.context // 4),
        )  # fmt: skip
        on_cpu = options.device == "cpu" or not torch.cuda.is_available()
        self.precisions = ["float32"] if on_cpu else options.precisions
        self.configs = {
            (precision, backend): self._config(precision, backend)
            for precision in self.precisions
            for backend in options.backends
        }
        self.rows: list[dict[str, Any]] = []

    def run(self) -> int:
        """Measure, print the table, write the JSON; the exit code."""
        first = next(iter(self.configs.values()))
        device = first.device
        torch.set_grad_enabled(False)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        self.events.phase("setup", "ceilings of this device")
        limits = ceilings(device, first.dtype)
        print("  ".join(f"{name} {value:.4g}" for name, value in limits.items()), flush=True)
        kernels: dict[str, str] = {}
        fp8_kernels: dict[str, str] = {}
        for index, ((precision, backend), config) in enumerate(self.configs.items()):
            self.events.phase("load", f"{config.shape.name}, {precision}, {backend}")
            runner = executor.load(config, random_weights(self.options.seed, device), Parallel(device))
            _fill(runner.cache.pool)
            kernels[f"{backend} {precision}"] = runner.attention.kernel
            if (products := executor.fp8_kernel(runner.model)) is not None:
                fp8_kernels[precision] = products
            table = config.shape.vocab * config.shape.hidden * config.dtype.itemsize
            bench = Bench(
                runner, config.shape, self.sizes, {"backend": backend, "precision": precision},
                config.weight_bytes_per_rank - table, limits, self.options.repeats, self.options.seed,
            )  # fmt: skip
            if runner.compiled is not None:
                made = runner.compiled.as_json
                print(f"compiled {made['what']}: {made['graphs']} graphs in {made['first_calls_s']:.1f} s", flush=True)
            self.events.phase("measure", f"{precision}, {backend}")
            with torch.inference_mode():
                rows_of(bench, self.options.rows, self._done)
            self.events.progress(index + 1, len(self.configs), "engines")
            del runner, bench
            if device.type == "cuda":
                torch.cuda.empty_cache()
        self._write(first, limits, kernels, fp8_kernels)
        return 0

    def _done(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        share = next((f"{row[key]:6.1%} {key[3:]}" for key in ("of_copy", "of_gemm", "of_modelled") if key in row), "")
        rate = f"{row['tokens_per_s']:12,.0f} tok/s" if "tokens_per_s" in row else " " * 18
        print(
            f"{row['row']:13} {row['backend']:5} {row['precision']:18} batch {row['batch']:4} context "
            f"{row['context']:6} {row['value']:12.3f} {row['unit']:10} {rate}  {share}",
            flush=True,
        )

    def _write(
        self, config: Config, limits: dict[str, float], kernels: dict[str, str], fp8_kernels: dict[str, str]
    ) -> None:
        path = self.options.json
        if path is None:
            return
        on_cuda = config.device.type == "cuda"
        write_atomic(
            path,
            {
                "schema": SCHEMA_VERSION,
                "kind": "engine_benchmark",
                "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "model": config.shape.name,
                "parameters": config.shape.parameters,
                "device": torch.cuda.get_device_name(config.device) if on_cuda else "CPU",
                "torch_version": torch.__version__,
                "repeats": self.options.repeats,
                "chunk": self.sizes.chunk,
                "compile_mode": self.options.compile_mode,
                "ceilings": limits,
                "attention_kernels": kernels,
                "fp8_kernels": fp8_kernels,
                "rows": self.rows,
            },
        )
        self.events.result(str(path))

    def _config(self, precision: str, backend: str) -> Config:
        """The load test's own configuration, so that the same decisions and refusals hold."""
        sizes, options = self.sizes, self.options
        page = 128 if precision != "float32" else 16
        batch, rows = max(sizes.batches), {*options.rows}
        served = 2 * (sizes.short + sizes.output)  # more than the saturated row's longest request
        loads = [
            (batch, sizes.context + STEPS, rows & {"decode", "attention"}),
            (sizes.prompts, sizes.prompt, rows & {"prefill"}),
            (1, sizes.long + STEPS, rows & {"long", "attention"}),
            (batch, max(served, sizes.context), rows & {"saturated"}),
        ]
        pages = max(count * pages_for(tokens, page) for count, tokens, wanted in loads if wanted)
        longest = max(tokens for _, tokens, wanted in loads if wanted)
        flags = [
            "--model", options.model, "--device", options.device, "--attention-backend", backend, "--warmup", "0",
            "--prompt-len", str(longest), "--output-len", "1", "--target-qps", "2", "--duration", "1", "--page-size",
            str(page), "--kv-tokens", str(pages * page), "--max-batch", str(max(*sizes.batches, sizes.prompts)),
            "--prefill-chunk", str(sizes.chunk), "--fp8-mode", FP8_MODES.get(precision, "none"), "--kv-dtype",
            "fp8" if precision in FP8_KV else "auto", "--seed", str(options.seed),
            "--compile-mode", options.compile_mode,
        ]  # fmt: skip
        return configure(load_test_options(flags), world_size=1, local_rank=0)


def _fill(pool: torch.Tensor) -> None:
    """Normal random keys and values: a cache of zeros reads faster, and a softmax over them says nothing."""
    for layer in pool:
        layer.copy_(torch.randn(layer.shape, device=pool.device))
