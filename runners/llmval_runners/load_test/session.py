"""The load test from start to end: set-up, weights, one measured window or the trials of a search, report."""

import argparse
import os
import secrets
import threading
import time
from pathlib import Path
from typing import Any

import torch
from llmval_runners.engine import loader as executor
from llmval_runners.engine.config import Config, configure, free_memory
from llmval_runners.engine.engine import Engine, PlanChannel
from llmval_runners.engine.kv_cache import PageAllocator
from llmval_runners.engine.parallel import TIMEOUT, Parallel
from llmval_runners.engine.request import Request
from llmval_runners.engine.scheduler import Scheduler
from llmval_runners.engine.step_plan import STOP
from llmval_runners.engine.weights import from_checkpoint, random_weights
from llmval_runners.load_test.arrivals import Load
from llmval_runners.load_test.journal import Journal, journal_path, left_behind
from llmval_runners.load_test.profiler import Profiler
from llmval_runners.load_test.rate_search import Asked, Search
from llmval_runners.load_test.result import Measured, load_test_result, partial_path
from llmval_runners.load_test.trial import Trial, allowed_misses, judge_trial
from llmval_runners.load_test.window import Window
from llmval_runners.process.errors import Refused
from llmval_runners.process.events import EventLog
from llmval_runners.process.files import write_json
from llmval_runners.process.shutdown import HangWatch, StopSignals

LAST_LOOK_S = 2.0
RUN_BITS = 63  # of an int64


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
        self.stop = StopSignals(self._emergency_save)
        self.parallel: Parallel | None = None
        self.window: Window | None = None  # the one under way, or the last one
        self.search: Search | None = None
        self._journal: Journal | None = None
        self._run: int | None = None  # the same on all ranks, and of no other run
        self._identity: dict[str, Any] = {}
        self._runner: executor.Loaded | None = None
        self._cache: dict[str, Any] = {}
        self._saving = threading.Lock()
        self._whole = False  # the result is written: whatever comes now, there is no partial one

    def run(self) -> int:
        """Measure and write the result; the exit code. Raises Interrupted, RankLost, or what went wrong."""
        self.stop.install()
        self.events.phase("setup", f"{self.world_size} ranks on {self.config.device.type}")
        torch.set_grad_enabled(False)
        if self.config.device.type == "cuda":
            torch.cuda.set_device(self.config.device)
        self.profiler.prime()
        channel = self._set_up()
        if self.rank != 0:
            return self._follow(channel)
        scheduler = Scheduler(
            self.config.shape,
            PageAllocator(channel.executor.cache.pages, self.config.page_size),
            max_batch=self.config.max_batch,
            chunk=self.config.chunk,
            element_bytes=self.config.kv_dtype.itemsize,
        )
        engine = Engine(channel, scheduler)
        self.stop.on_signal.append(engine.wake.set)
        if self.world_size > 1:
            HangWatch(lambda: channel.executor.waiting_since, TIMEOUT.total_seconds(), self._hung).start()
        try:
            self._measure(engine)
        except Interrupted:
            engine.end(self.stop.exit_code)
            raise
        # Before the report, which may take minutes: nobody sends idle plans meanwhile. The others wait in `close`.
        engine.end(0)
        self._save()
        return 0

    def close(self) -> None:
        """After a whole run: leave the process group."""
        self.stop.done()
        if self.parallel is not None:
            self.parallel.close()

    def keep_partial(self, why: str) -> None:
        """Save what was measured until now beside where the result would have been."""
        path = self.config.options.output_json
        if self.rank != 0 or path is None:
            return
        try:
            with self.stop.protect_write(), self._saving:
                if self._whole:
                    return
                write_json(partial_path(path), self._result(why))
                self._end_journal()
        except OSError as error:
            self.events.error("record_lost", f"{partial_path(path)} cannot be written ({error.strerror})")
            return
        self.events.result(str(partial_path(path)))

    def keep_for_rank_0(self, why: str) -> None:
        """Where rank 0 is dead, whose memory held the record: rank 1 makes it from the journal."""
        path = self.config.options.output_json
        if self.rank != 1 or path is None or self._run is None:
            return
        try:
            with self.stop.protect_write():
                self._take_journal(path, why, self._run)
        except (OSError, ValueError, KeyError) as error:
            what = f"{type(error).__name__}: {error}"
            self.events.error("record_lost", f"{journal_path(path)} cannot be made a record ({what})")

    def _take_journal(self, path: Path, why: str, run: int) -> None:
        deadline = time.monotonic() + LAST_LOOK_S  # a collective may fail before the kernel is done with rank 0
        while (found := left_behind(journal_path(path), run)) is None:
            if time.monotonic() > deadline:  # rank 0 lives, or has written its record
                return
            time.sleep(0.1)
        header, sent = found
        load = self.config.load(header["target_qps"], header["seed"])
        times = [request.token_times[-1] if request.done else request.dispatch_s for request in sent]
        for request in sent:
            if not request.done:
                request.error = why
        measured = Measured(sent, load.arrivals, max(times, default=0.0), why)
        write_json(partial_path(path), self._record(measured, load, header["search"]))
        journal_path(path).unlink(missing_ok=True)
        self.events.error("rank_0_lost", f"rank 1 kept the {len(sent)} requests that rank 0 had noted")

    def explain(self, error: Exception) -> str:
        """What went wrong, in one sentence: of memory that ran out, what was needed and what is free."""
        if isinstance(error, torch.OutOfMemoryError):
            return executor.out_of_memory(self.config, free_memory(self.config.device), error)
        return str(error)

    def _emergency_save(self, number: int) -> None:
        self.events.error(
            "interrupted", f"rank {self.rank} was sent signal {number} and was stuck: the record ends here"
        )
        self.keep_partial(f"ended by signal {number}")
        # A rank may be stuck because rank 0 is dead: not every collective notices.
        self.keep_for_rank_0(f"rank 1 waited for rank 0 in vain until signal {number} ended it")

    def _hung(self, waited_s: float) -> None:
        """Another rank hangs, and this one waits for its GPU, which waits for the other's."""
        why = f"rank 0 waited {waited_s:.0f} s for a step to end: another rank, or its GPU, hangs"
        self.events.error("dead_rank", why)
        try:
            self.keep_partial(why)
        finally:
            os._exit(1)

    def _set_up(self) -> PlanChannel:
        """Everything up to the engine that is ready. The journal comes first: another load test may have it."""
        # One rank alone needs none: nobody is left to read it.
        if self.rank == 0 and self.world_size > 1 and self.config.options.output_json is not None:
            self._journal = Journal(journal_path(self.config.options.output_json))
        try:
            self.parallel = Parallel(self.config.device, self.rank, self.world_size)
            # torchrun's own run id is `none` for every run without --standalone.
            self._run = self.parallel.min_over_ranks(secrets.randbits(RUN_BITS))
            return self._load(self.parallel)
        except Refused:
            self._end_journal()
            raise

    def _load(self, parallel: Parallel) -> PlanChannel:
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
        return PlanChannel(runner, max_batch=config.max_batch, trace=self.profiler.switch)

    def _follow(self, channel: PlanChannel) -> int:
        self.events.phase_name = "follow"
        while (plan := channel.receive()).kind != STOP:
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

    def _window(self, engine: Engine, load: Load, label: str | None = None) -> Window:
        options = self.config.options
        self.window = Window(
            engine, load, self.events, self._step, vocab=self.config.shape.vocab,
            drain_timeout_s=options.drain_timeout, max_in_flight=options.max_in_flight, label=label,
            journal=self._journal, noted={"run": self._run, "search": self._searched()},
        )  # fmt: skip
        self.window.warm_up()
        return self.window

    def _measure(self, engine: Engine) -> None:
        if self.config.options.find_max_qps:
            self._find_max_qps(engine)
        else:
            self._window(engine, self.config.load()).measure(profiler=self.profiler)
            self.profiler.export()

    def _find_max_qps(self, engine: Engine) -> None:
        """Trial after trial on the one engine; the last one, which confirms, is the window that the result keeps."""
        config, options = self.config, self.config.options
        search = self.search = Search(
            Asked(
                options.target_qps, options.max_qps, options.precision, options.min_goodput, options.duration,
                options.seed,
            )
        )  # fmt: skip
        while (planned := search.next()) is not None:
            load = config.load(planned.qps, planned.seed)
            window = self._window(engine, load, f"trial {planned.number}")
            window.measure(config.slo, misses=allowed_misses(options.min_goodput, len(load.arrivals)))
            trial = judge_trial(
                window.measured(), config.slo, options.min_goodput, number=planned.number, purpose=planned.purpose,
                seed=planned.seed, target_qps=planned.qps,
            )  # fmt: skip
            search.took(trial)
            self._tell(search, trial)
            window.empty()

    def _tell(self, search: Search, trial: Trial) -> None:
        self.events.metrics(
            {
                "trial_qps": trial.target_qps,
                "trial_goodput_percent": 100 * trial.goodput_share,
                "trial_ttft_sched_p99_ms": trial.ttft_sched["p99_ms"],
                "highest_held_qps": search.lower,
            }
        )
        print(
            f"trial {trial.number} ({trial.purpose}): {trial.target_qps:.4g} requests/s, "
            f"{trial.goodput_share:.1%} kept the service level: {trial.verdict}"
            + (f" ({trial.reason})" if trial.reason else ""),
            flush=True,
        )

    def _save(self) -> None:
        self.events.phase("report")
        with self.stop.protect_write():
            self._report()

    def _report(self) -> None:
        result = self._result(None)
        path = self.config.options.output_json
        print(_sentence(result))
        if self.search is not None:
            print(self.search.sentence())
        if path is not None:
            with self._saving:
                write_json(path, result)
                self._whole = True
                self._end_journal()
            self.events.result(str(path))

    def _end_journal(self) -> None:
        if self._journal is not None:
            self._journal.remove()
            self._journal = None

    def _result(self, ended_early: str | None) -> dict[str, Any]:
        config, window = self.config, self.window
        load = window.load if window else config.load()
        measured = window.measured(ended_early) if window else Measured([], load.arrivals, 0.0, ended_early)
        return self._record(measured, load, self._searched())

    def _searched(self) -> dict[str, Any] | None:
        """The search until now, where there is one."""
        return self.search.record() if self.search is not None else None

    def _record(self, measured: Measured, load: Load, search: dict[str, Any] | None) -> dict[str, Any]:
        config, options = self.config, self.config.options
        workload = {
            "target_qps": load.target_qps,
            "duration_s": load.duration_s,
            "burstiness": options.burstiness,
            "prompt_len": str(config.prompt),
            "output_len": str(config.output),
            "warmup_requests": len(load.warmup),
            "max_in_flight": options.max_in_flight,
            "temperature": options.temperature,
            "seed": load.seed,
            "max_batch": config.max_batch,
            "prefill_chunk": config.chunk,
        }
        identity = self._identity or _identity(config, None)
        if self._runner is not None and self._runner.compiled is not None:
            identity |= {"compile": self._runner.compiled.as_json()}  # with what was compiled since the start
        result = load_test_result(measured, identity, workload, self._cache, config.slo, search)
        if self.profiler.ran:
            reasons = [*result["llmval"]["invalid_reasons"], "a profiler ran, so the figures are not the node's"]
            result["llmval"] |= {"valid": False, "invalid_reasons": reasons}
        if self.profiler.record is not None:
            result["llmval"]["trace"] = self.profiler.record
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
        "dtype": _name(runner.model.embedding.dtype if runner else config.dtype),
        "kv_dtype": _name(runner.cache.dtype if runner else config.kv_dtype),
        "attention_backend": backend.name if backend else None,
        "attention_kernel": backend.kernel if backend else None,
        "fp8_mode": executor.fp8_mode(runner.model) if runner else config.fp8,
        "fp8_kernel": executor.fp8_kernel(runner.model) if runner else None,
        "compile_mode": compiled.mode if compiled else "off" if runner else config.compile_mode,
        "compile": compiled.as_json() if compiled else None,
        "tensor_parallel": runner.model.parallel.size if runner else config.tensor_parallel,
        "all_reduce": runner.model.parallel.all_reduce_name if runner else None,
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
