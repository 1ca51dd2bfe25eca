"""The load test from start to end: set-up, weights, one measured window or the trials of a search, report."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from llmval_runners.engine import loader
from llmval_runners.engine.checkpoint.load import from_checkpoint
from llmval_runners.engine.engine import KEEPALIVE_S, Engine, PlanChannel
from llmval_runners.engine.kv_cache import PageAllocator
from llmval_runners.engine.parallel import TIMEOUT, Parallel
from llmval_runners.engine.replicas import Replicas
from llmval_runners.engine.request import Request
from llmval_runners.engine.scheduler import Scheduler
from llmval_runners.engine.step_plan import STOP
from llmval_runners.engine.weights import random_weights
from llmval_runners.load_test.config import configure_load_test
from llmval_runners.load_test.energy import WindowEnergy
from llmval_runners.load_test.generator import Load
from llmval_runners.load_test.identity import identity_of
from llmval_runners.load_test.journal import Journal, journal_path
from llmval_runners.load_test.last_screen import last_screen
from llmval_runners.load_test.load_flags import SearchOptions
from llmval_runners.load_test.options import LoadTestOptions
from llmval_runners.load_test.profiler import NONE, Profiler
from llmval_runners.load_test.rate_search import Search
from llmval_runners.load_test.rate_trial import SearchConfig, allowed_misses, judge_trial
from llmval_runners.load_test.record_facts import add_machine, kv_cache_of, workload_of
from llmval_runners.load_test.recovery import recovery_command
from llmval_runners.load_test.replica_windows import Plan, ReplicaWindows
from llmval_runners.load_test.result import PROFILED, Measured, load_test_result, mark_invalid
from llmval_runners.load_test.search_report import report_trial, search_record
from llmval_runners.load_test.window import MeasurementWindow
from llmval_runners.measure.ceilings import ceilings
from llmval_runners.measure.free_memory import free_memory
from llmval_runners.measure.host_noise import HostNoise
from llmval_runners.process import on_failure
from llmval_runners.process.errors import FAILED_EXIT, RankLost, Refused, ended_by
from llmval_runners.process.events import EventLog
from llmval_runners.process.output import OutputFile, flush_streams, show, where_of
from llmval_runners.process.placement import Placement, replica_path
from llmval_runners.process.record import RunRecord
from llmval_runners.process.screen import plural
from llmval_runners.process.shutdown import HangWatch, StopSignals


class Interrupted(Exception):
    """SIGINT or SIGTERM arrived."""


class LoadTest:
    """One rank's load test. `run` measures; `save_partial` saves the record so far if it ends early."""

    def __init__(self, options: LoadTestOptions, events: EventLog, place: Placement) -> None:
        """Decide everything without heavy work. Raises Refused."""
        self.events, self.place, self.rank = events, place, place.rank
        self.config, self.load = configure_load_test(options, place)
        self.profiler = Profiler(self.load.profile, self.load.duration_s, self.config.device, self.rank)
        self.replicas = ReplicaWindows(Replicas(place), self.load)
        self.stop = StopSignals(self._emergency_save)
        self.parallel: Parallel | None = None
        self.window: MeasurementWindow | None = None  # the current one, or else the last one
        self.search: Search | None = None
        self._journal: Journal | None = None
        self._executor: loader.Loaded | None = None
        self._identity: dict[str, Any] = {}
        self._cache: dict[str, Any] = {}
        self._ceilings: dict[str, float] | None = None  # of rank 0's GPU
        self._host: dict[str, float | None] | None = None  # `HostNoise.read` of the last trial
        self.energy = WindowEnergy()
        self.report = options.report
        path = self.load.output_json
        # The record is rank 0's. Another leader has only what a run that ends early leaves on its node.
        self._path = path if path is None else replica_path(path, place.replica)
        self.output = OutputFile(self._path) if self._path is not None and place.leads else None
        self.record = RunRecord(self.output, self.stop, events)

    def run(self) -> int:
        """Measure, write the result and return the exit code. Raises RankLost, or any error of the work."""
        try:
            code = self._run()
        except Interrupted:
            code = self.stop.exit_code if self.stop.number else 128 + signal.SIGTERM
            self.save_partial(ended_by(code - 128))
        except Refused as refusal:
            self.replicas.peers.end(str(refusal), refused=True)
            raise
        else:
            self.stop.done()
            self.replicas.peers.close(code)
            if self.parallel is not None:
                self.parallel.close()
        return code

    def _run(self) -> int:
        self.stop.install()
        count, several = self.place.data_parallel, self.replicas.several
        copies = f", {count} replicas of the model" if several else ""
        self.events.phase("setup", f"{plural(self.place.world_size, 'rank')} on {self.config.device.type}{copies}")
        torch.set_grad_enabled(False)
        if self.config.device.type == "cuda":
            torch.cuda.set_device(self.config.device)
        self.profiler.prime()
        channel = self._set_up()
        if not self.place.leads:
            return self._follow(channel)
        scheduler = Scheduler(
            self.config.shape,
            PageAllocator(channel.executor.cache.pages, self.config.page_size),
            max_batch=self.config.max_batch,
            chunk=self.config.prefill_chunk,
            element_bytes=self.config.kv_dtype.itemsize,
        )
        engine = Engine(channel, scheduler)
        self.stop.on_signal.append(engine.wake.set)
        self.replicas.peers.on_end = engine.wake.set
        if self.place.tensor_parallel > 1:
            HangWatch(lambda: channel.executor.waiting_since, TIMEOUT.total_seconds(), self._on_hang).start()
        try:
            self._measure(engine)
        except Interrupted:
            engine.end(self.stop.exit_code)
            raise
        except (RankLost, Refused):
            if self.replicas.peers.over:  # another replica is lost, and this one's ranks wait for a plan
                with suppress(RankLost):
                    engine.end(FAILED_EXIT)
            raise
        # Before the report, which may take minutes and sends no idle plans. The other ranks wait in `Parallel.close`.
        engine.end(0)
        if self.place.replica:
            code = self.replicas.peers.hear_verdict(self._check_signal)
            self._end_journal()
            return code
        return self._save()

    def finish(self) -> None:
        """Tell the signal guard that the record is written."""
        if self.output is not None:
            self.output.release()
        self.stop.done()

    def save_partial(self, why: str) -> None:
        """Save the measurement so far beside the path of the result, and show it.

        Of several replicas each leader saves its own, and rank 0 all that reach it.
        """
        if self.rank == 0 or not self.place.leads:
            self.replicas.peers.end(why)  # now: the others give what they have
        if not self.place.leads:
            return
        saved = self.record.early(lambda: self._result(why), self._end_journal)
        if self.rank == 0:
            if saved is not None:
                self._show(*saved)
            return
        self.replicas.peers.end(why)
        self.replicas.give_early(self._own(why))

    def describe_error(self, error: Exception) -> str:
        """The error in one sentence. If memory ran out: what was needed, and what is free."""
        if isinstance(error, torch.OutOfMemoryError):
            return loader.out_of_memory(self.config, free_memory(self.config.device), error)
        return str(error)

    def _emergency_save(self, number: int) -> None:
        self.events.error(
            "interrupted", f"rank {self.rank} received signal {number} and was stuck: the record ends here"
        )
        self.save_partial(ended_by(number))

    def _on_hang(self, waited_s: float) -> None:
        """Save the record and exit: another rank hangs, and this rank's GPU waits for it."""
        why = f"rank {self.rank} waited {waited_s:.0f} s for a step to end: another rank, or its GPU, hangs"
        self.events.error("dead_rank", why)
        try:
            self.save_partial(why)
        finally:
            flush_streams()
            os._exit(FAILED_EXIT)

    def _set_up(self) -> PlanChannel:
        """Prepare the engine. The journal comes first, because another load test may have locked it."""
        path, place, peers = self._path, self.place, self.replicas.peers
        # A single rank needs no journal: if it dies, nobody is left to read the file.
        if place.leads and place.world_size > 1 and path is not None:
            self._journal = Journal(journal_path(path))
            on_failure.register(recovery_command(path))
        try:
            peers.start(self._check_signal)
            self.parallel = Parallel(
                self.config.device, place.tensor_rank, place.tensor_parallel, store=peers.store_for_ranks(),
                first_rank=place.first_rank,
            )  # fmt: skip
            return self._load(self.parallel)
        except Refused:
            self._end_journal()
            raise

    def _load(self, parallel: Parallel) -> PlanChannel:
        config = self.config
        then = "" if config.compile_mode == "off" else f", then compiling ({config.compile_mode})"
        self.events.phase("load", f"{config.shape.name}, {config.shape.parameters / 1e9:.3g} B parameters{then}")
        source = (
            from_checkpoint(config.checkpoint, config.device)
            if config.checkpoint
            else random_weights(config.seed, config.device)
        )
        if self.place.leads and config.device.type == "cuda":
            self._ceilings = ceilings(config.device, config.dtype)
            torch.cuda.empty_cache()  # the KV cache takes what is free
            torch.cuda.reset_peak_memory_stats(config.device)
        executor = loader.load(config, source, parallel)
        self._executor, self._identity = executor, identity_of(config, executor)
        self._cache = kv_cache_of(executor, config, self.place)
        return PlanChannel(executor, max_batch=config.max_batch, trace=self.profiler.switch)

    def _follow(self, channel: PlanChannel) -> int:
        self.events.phase("follow")
        while (plan := channel.receive()).kind != STOP:
            self.events.step = (self.events.step or 0) + 1
        if plan.code:
            raise Interrupted
        return 0

    def _check_signal(self) -> None:
        if self.stop.number is not None:
            raise Interrupted

    def _step(self, engine: Engine) -> list[tuple[Request, int, bool]]:
        self._check_signal()
        self.replicas.peers.check()
        sampled = engine.step()
        self.events.step = (self.events.step or 0) + bool(sampled)
        return sampled

    def _window(self, engine: Engine, load: Load, label: str | None = None) -> MeasurementWindow:
        self.window = MeasurementWindow(
            engine, load, self.events, self._step, vocab=self.config.shape.vocab,
            drain_timeout_s=self.load.drain_timeout_s, max_in_flight=self.load.max_in_flight, label=label,
            journal=self._journal, journal_header=self._journal_header(load),
        )  # fmt: skip
        self.window.warm_up()
        return self.window

    def _waiting(self, engine: Engine) -> Callable[[], None]:
        """What this leader does while it waits for the others: its own ranks must not time out."""
        told = time.monotonic()

        def idle() -> None:
            nonlocal told
            self._check_signal()
            if time.monotonic() - told >= KEEPALIVE_S:
                engine.keep_alive()
                told = time.monotonic()

        return idle

    def _measure(self, engine: Engine) -> None:
        idle = self._waiting(engine)
        if self.place.replica:
            while (plan := self.replicas.next_plan(idle)) is not None:
                window = self._measure_own(engine, plan)
                self.replicas.give(self._own(None), idle)
                if self.load.search is not None:
                    window.drain()
            return
        if self.load.search is not None:
            self._find_max_qps(engine, self.load.search)
        else:
            self._measure_all(engine, Plan(self.load.target_qps, self.load.seed))
            self.profiler.export()
        self.replicas.tell_plan(None)

    def _measure_all(self, engine: Engine, plan: Plan) -> MeasurementWindow:
        """Run one window on all replicas at the same time, and take what the others have measured."""
        self.replicas.tell_plan(plan)
        window = self._measure_own(engine, plan)
        self.replicas.take(self._waiting(engine))
        return window

    def _measure_own(self, engine: Engine, plan: Plan) -> MeasurementWindow:
        load = self.load.load(plan.qps, plan.seed)
        whose = f"replica {self.place.replica} of {self.place.data_parallel}" if self.replicas.several else None
        window = self._window(engine, load, ", ".join(text for text in (plan.label, whose) if text) or None)
        self.replicas.meet(self._waiting(engine))
        if (search := self.load.search) is not None:
            noise = HostNoise()
            window.measure(self.load.slo, misses=allowed_misses(search.min_goodput, len(load.arrivals)))
            # Other ranks would count as other processes.
            self._host = noise.read() if self.place.world_size == 1 else None
            return window
        self.energy.begin(self.config.device, self.place.tensor_parallel)
        try:
            window.measure(profiler=self.profiler)
        finally:
            self.energy.end()
        return window

    def _find_max_qps(self, engine: Engine, options: SearchOptions) -> None:
        """Run the trials one after the other on one engine. The result has the window of the last one."""
        search = self.search = Search(
            SearchConfig(
                self.load.target_qps, options.max_qps, options.precision, options.widest, options.min_goodput,
                self.load.duration_s, self.load.seed, options.max_trials, options.confidence,
            )
        )  # fmt: skip
        while (planned := search.next()) is not None:
            window = self._measure_all(engine, Plan(planned.qps, planned.seed, f"trial {planned.number}"))
            trial = judge_trial(
                [self._own(None), *self.replicas.taken()], self.load.slo, options.min_goodput, planned,
                self._host,
            )  # fmt: skip
            search.record(trial)
            report_trial(self.events, search, trial)
            window.drain()

    def _save(self) -> int:
        """Write the record, show the last screen, and return the exit code."""
        self.events.phase("report")
        result = self.record.complete(lambda: self._result(None), self._end_journal)
        path, verdict = self.load.output_json, result["llmval"]["verdict"]
        shown = self._show(result, path)
        # llmval judges the record itself and reads the exit code as "was it written". A trace is not a measurement.
        is_judged = path is not None and (self.events.recording or self.profiler.ran)
        code = 0 if is_judged else int(verdict["exit_code"]) if shown else FAILED_EXIT
        self.replicas.peers.tell_verdict(verdict, code)
        return code

    def _show(self, result: dict[str, Any], path: Path | None) -> bool:
        """False if the record was for standard output and is lost."""
        self.events.clear()
        where = where_of(path, self.output)
        return show(
            self.report, result, result["llmval"]["verdict"], lambda: last_screen(result, where, self.energy.reason)
        )

    def _end_journal(self) -> None:
        if self._journal is not None:
            self._journal.remove()
            self._journal = None
            on_failure.withdraw()

    def _own(self, ended_early: str | None) -> Measured:
        """This replica's window."""
        window = self.window
        load = window.load if window else self.load.load()
        measured = window.measured(ended_early) if window else Measured([], load.arrivals, 0.0, ended_early)
        if window is not None:
            add_machine(
                measured, window.steps, self.config, self.place, energy=self.energy,
                fp8_mode=str(self._current_identity()["fp8_mode"]), ceilings=self._ceilings,
            )  # fmt: skip
        return self.replicas.named(measured, load, self._current_identity()["device_name"], self._cache)

    def _result(self, ended_early: str | None) -> dict[str, Any]:
        windows = [self._own(ended_early)]
        if self.rank == 0:
            windows += self.replicas.taken() if ended_early is None else self.replicas.take_early()
        workload = workload_of(self.window.load if self.window else self.load.load(), self.load, self.config)
        if self.rank == 0 and self.replicas.several:
            plan = self.replicas.plan or Plan(self.load.target_qps, self.load.seed)
            workload |= {"target_qps": plan.qps, "seed": plan.seed}
        result = load_test_result(
            windows, self._current_identity(), workload, self._cache, self.load.slo, self._search_record()
        )
        if self.profiler.ran:
            mark_invalid(result, PROFILED)
        if self.profiler.record is not None:
            result["llmval"]["trace"] = self.profiler.record
        return result

    def _search_record(self) -> dict[str, Any] | None:
        return search_record(self.search) if self.search is not None else None

    def _current_identity(self) -> dict[str, Any]:
        identity = self._identity or identity_of(self.config, None)
        identity |= {"data_parallel": self.place.data_parallel}
        if self._executor is not None and self._executor.compiled is not None:
            identity |= {"compile": self._executor.compiled.as_json()}  # adds the graphs compiled since the start
        return identity

    def _journal_header(self, load: Load) -> dict[str, Any]:
        """The record without the requests, for `recovery.py`."""
        return {
            "identity": self._current_identity(),
            "workload": workload_of(load, self.load, self.config),
            "kv_cache": self._cache,
            "slo": asdict(self.load.slo),
            "search": self._search_record(),
            "profiled": self.profiler.kind != NONE,
            "only": self.place.name(self.place.replica) if self.replicas.several else None,
        }
