"""The load test from start to end: set-up, weights, warm-up, the measured window, drain, report."""

import argparse
import threading
from pathlib import Path
from typing import Any

import torch
from llmval_runners import executor
from llmval_runners.configure import Config, configure
from llmval_runners.engine import Engine, Link
from llmval_runners.events import EventLog
from llmval_runners.kv_cache import PageAllocator
from llmval_runners.loadgen import LoadGenerator, prompt_tokens
from llmval_runners.metrics import LiveMetrics
from llmval_runners.parallel import Parallel
from llmval_runners.plan import STOP
from llmval_runners.profiling import Profiler
from llmval_runners.request import Request
from llmval_runners.result import Measured, load_test_result, partial_path, write_atomic
from llmval_runners.scheduler import Scheduler
from llmval_runners.stop import StopSignals
from llmval_runners.weights import from_checkpoint, random_weights

REPORT_S = 0.5


class Interrupted(Exception):
    """SIGINT or SIGTERM was heard."""


class LoadTest:
    """One rank's load test. `run` measures; `keep_partial` saves what there is when it ends early."""

    def __init__(
        self, options: argparse.Namespace, events: EventLog, *, rank: int, world_size: int, local_rank: int
    ) -> None:
        """Decides everything, does nothing heavy; raises Refused."""
        self.events, self.rank, self.world_size = events, rank, world_size
        self.config: Config = configure(options, world_size=world_size, local_rank=local_rank)
        self.profiler = Profiler(options, self.config.device, rank)
        self.stop = StopSignals(self._last_words)
        self.parallel: Parallel | None = None
        self._generator: LoadGenerator | None = None
        self._identity: dict[str, Any] = {}
        self._runner: executor.Loaded | None = None
        self._cache: dict[str, Any] = {}
        self._saving = threading.Lock()
        self._ended_s: float | None = None

    def run(self) -> int:
        """Measure and write the result; the exit code. Raises Interrupted, RankLost, or what went wrong."""
        self.stop.install()
        self.events.phase("setup", f"{self.world_size} ranks on {self.config.device.type}")
        torch.set_grad_enabled(False)
        if self.config.device.type == "cuda":
            torch.cuda.set_device(self.config.device)
        self.profiler.prime()
        self.parallel = Parallel(self.config.device, self.rank, self.world_size)
        link = self._load(self.parallel)
        if self.rank != 0:
            return self._follow(link)
        scheduler = Scheduler(
            self.config.shape,
            PageAllocator(link.runner.cache.pages, self.config.page_size),
            max_batch=self.config.max_batch,
            chunk=self.config.chunk,
            element_bytes=self.config.kv_dtype.itemsize,
        )
        engine = Engine(link, scheduler)
        self.stop.on_signal.append(engine.wake.set)
        try:
            self._warm_up(engine)
            self._measure(engine)
        except Interrupted:
            engine.end(self.stop.exit_code)
            raise
        engine.end(0)
        return 0

    def close(self) -> None:
        """After a whole run: leave the process group."""
        self.stop.finished()
        if self.parallel is not None:
            self.parallel.close()

    def keep_partial(self, why: str) -> None:
        """Save what was measured until now beside where the result would have been."""
        path = self.config.options.output_json
        if self.rank != 0 or path is None:
            return
        try:
            with self._saving:
                write_atomic(partial_path(path), self._result(why))
        except OSError as error:
            self.events.error("record_lost", f"{partial_path(path)} cannot be written ({error.strerror})")
            return
        self.events.result(str(partial_path(path)))

    def _last_words(self, number: int) -> None:
        self.events.error(
            "interrupted", f"rank {self.rank} was sent signal {number} and was stuck: the record ends here"
        )
        self.keep_partial(f"ended by signal {number}")

    def _load(self, parallel: Parallel) -> Link:
        config, options = self.config, self.config.options
        then = "" if config.compile_mode == "off" else f", then compiling ({config.compile_mode})"
        self.events.phase("load", f"{config.shape.name}, {config.shape.parameters / 1e9:.3g} B parameters{then}")
        source = (
            from_checkpoint(config.checkpoint) if config.checkpoint else random_weights(options.seed, config.device)
        )
        runner = executor.load(config, source, parallel)
        cache = runner.cache
        self._runner, self._identity = runner, _identity(config, runner)
        self._cache = {
            "bytes_per_rank": cache.bytes_per_rank,
            "bytes_total": cache.bytes_per_rank * self.world_size,
            "tokens": cache.pages * config.page_size,
            "page_size": config.page_size,
            "dtype": _name(config.kv_dtype),
        }
        return Link(runner, max_batch=config.max_batch, chunk=config.chunk, trace=self.profiler.switch)

    def _follow(self, link: Link) -> int:
        self.events.phase_name = "follow"
        while (plan := link.receive()).kind != STOP:
            self.events.step = (self.events.step or 0) + 1
        if plan.code:
            raise Interrupted
        return 0

    def _step(self, engine: Engine) -> list[tuple[Request, int, bool]]:
        if self.stop.number is not None:
            raise Interrupted
        sampled = engine.step()
        self.events.step = (self.events.step or 0) + bool(sampled)
        return sampled

    def _warm_up(self, engine: Engine) -> None:
        seed, total, done = self.config.options.seed + 1, len(self.config.warmup), 0
        if not total:
            return
        self.events.phase("warmup", f"{total} requests, not measured")
        for arrival in self.config.warmup:
            prompt = prompt_tokens(seed, arrival.index, arrival.input_tokens, self.config.shape.vocab)
            engine.submit(Request(arrival.index, prompt, arrival.output_tokens))
        while not engine.idle:
            done += sum(ended for *_, ended in self._step(engine))
            self.events.progress(done, total, "requests")

    def _measure(self, engine: Engine) -> None:
        config, options = self.config, self.config.options
        live = LiveMetrics([arrival.intended_s for arrival in config.arrivals])
        generator = self._generator = LoadGenerator(
            config.arrivals,
            engine.submit,
            seed=options.seed,
            vocab=config.shape.vocab,
            max_in_flight=options.max_in_flight,
        )
        self.events.phase("measure", f"{len(config.arrivals)} requests at {options.target_qps:g} a second")
        generator.start()
        completed, reported, draining = 0, 0.0, False
        try:
            while not (generator.finished.is_set() and engine.idle):
                sampled = self._step(engine)
                now = generator.now()
                if (on := self.profiler.due(now, bool(sampled))) is not None:
                    engine.trace(on)
                live.tokens(now, len(sampled))
                for request, token, ended in sampled:
                    request.tokens.append(token)
                    request.token_times.append(now)
                    if len(request.token_times) == 1:
                        live.first_token(now, request)
                    if ended:
                        completed += 1
                        live.ended(now, request)
                        generator.answered()
                if not draining and now > options.duration and generator.finished.is_set():
                    draining = True
                    self.events.phase("drain", "the last requests")
                if now - reported >= REPORT_S:
                    reported = now
                    self._report(engine, generator, live, now, completed, draining)
                if now > options.duration + options.drain_timeout:
                    break
        finally:
            generator.stop()
        self._ended_s = generator.now()
        if self.profiler.cut(self._ended_s) is not None:
            engine.trace(False)
        self._report(engine, generator, live, self._ended_s, completed, draining)
        self.profiler.export()
        self._save()

    def _report(
        self, engine: Engine, generator: LoadGenerator, live: LiveMetrics, now: float, completed: int, draining: bool
    ) -> None:
        if draining:
            self.events.progress(completed, len(self.config.arrivals), "requests")
        else:
            self.events.progress(min(now, self.config.options.duration), self.config.options.duration, "s")
        allocator = engine.scheduler.allocator
        load = {
            "running": engine.scheduler.running,
            "queued": engine.queued,
            "kv_used_percent": 100 * allocator.used / allocator.pages,
        }
        self.events.metrics(live.snapshot(now, generator.sent) | load)

    def _save(self) -> None:
        self.events.phase("report")
        result = self._result(None)
        path = self.config.options.output_json
        print(_sentence(result))
        if path is not None:
            with self._saving:
                write_atomic(path, result)
            self.events.result(str(path))

    def _result(self, ended_early: str | None) -> dict[str, Any]:
        config, options, generator = self.config, self.config.options, self._generator
        now = (
            (generator.now() if generator and generator.origin_ns else 0.0) if self._ended_s is None else self._ended_s
        )
        sent = list(generator.sent) if generator else []
        for request in sent:
            if not request.done:
                request.error = request.error or (
                    ended_early or f"not finished {options.drain_timeout:g} s after the last arrival was due"
                )
        workload = {
            "target_qps": options.target_qps,
            "duration_s": options.duration,
            "burstiness": options.burstiness,
            "prompt_len": str(config.prompt),
            "output_len": str(config.output),
            "warmup_requests": len(config.warmup),
            "max_in_flight": options.max_in_flight,
            "temperature": options.temperature,
            "seed": options.seed,
            "max_batch": config.max_batch,
            "prefill_chunk": config.chunk,
        }
        ends = [request.last_token_s for request in sent if request.done]
        duration = max(ends, default=now) if ended_early is None else now
        measured = Measured(sent, config.arrivals, duration, ended_early)
        identity = self._identity or _identity(config, None)
        if self._runner is not None and self._runner.compiled is not None:
            identity |= {"compile": self._runner.compiled.as_json}  # with what was compiled since the start
        result = load_test_result(measured, identity, workload, self._cache, config.slo)
        if self.profiler.record is not None:
            reasons = [*result["llmval"]["invalid_reasons"], "a profiler ran, so the figures are not the node's"]
            result["llmval"] |= {"trace": self.profiler.record, "valid": False, "invalid_reasons": reasons}
        return result


def _identity(config: Config, runner: executor.Loaded | None) -> dict[str, Any]:
    """What ran, never what was asked; null where it did not come to run."""
    backend: executor.Attention | None = runner.attention if runner else None
    compiled = runner.compiled if runner else None
    on_cuda = config.device.type == "cuda"
    return {
        "model": config.shape.name,
        "parameters": config.shape.parameters,
        "weights": str(config.checkpoint) if config.checkpoint else "random",
        "tokenizer": "none: random token ids",
        "dtype": _name(config.dtype),
        "kv_dtype": _name(config.kv_dtype),
        "attention_backend": backend.name if backend else None,
        "attention_kernel": backend.kernel if backend else None,
        "fp8_mode": config.fp8,
        "fp8_kernel": executor.fp8_kernel(runner.model) if runner else None,
        "compile_mode": compiled.mode if compiled else "off" if runner else config.compile_mode,
        "compile": compiled.as_json if compiled else None,
        "tensor_parallel": config.tensor_parallel,
        "device": config.device.type,
        "device_name": torch.cuda.get_device_name(config.device) if on_cuda else _cpu_name(),
        "torch_version": torch.__version__,
        "seed": config.options.seed,
        "shape": {
            name: getattr(config.shape, name)
            for name in ("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab")
        },
    }


def _cpu_name() -> str:
    with Path("/proc/cpuinfo").open() as file:
        return next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "CPU")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _sentence(result: dict[str, Any]) -> str:
    ours = result["llmval"]
    rates = ours["rates"]
    state = "valid" if ours["valid"] else "INVALID: " + "; ".join(ours["invalid_reasons"])
    return (
        f"offered {rates['offered_qps']:.2f} QPS, achieved {rates['achieved_qps'] or 0:.2f}, "
        f"completed {rates['completed_qps']:.2f}; {result['completed']} of {result['num_prompts']} requests, "
        f"{result['output_throughput']:.1f} output tokens/s; TTFT p50 {result['p50_ttft_ms']:.1f} ms, "
        f"p99 {result['p99_ttft_ms']:.1f}; TPOT p50 {result['p50_tpot_ms']:.2f} ms; {state}"
    )
