"""The load test of a server from start to end: probe, warm-up, one window or the trials of a search, report.

The event loop runs in a thread of its own, because the main thread must be free for the signals of `StopSignals`.
"""

import asyncio
import hashlib
import os
import threading
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

import uvloop
from llmval_runners.load_test.generator import Arrival, Load, arrival_times, schedule
from llmval_runners.load_test.last_screen import last_screen
from llmval_runners.load_test.load_flags import SearchOptions, recorded_burstiness
from llmval_runners.load_test.rate_search import Search
from llmval_runners.load_test.rate_trial import SearchConfig, allowed_misses, judge_trial
from llmval_runners.load_test.result import Measured, load_test_result, mark_invalid
from llmval_runners.load_test.search_report import report_trial, search_record
from llmval_runners.openai_client.connection import Connections, Target, raise_file_limit, tls_context
from llmval_runners.openai_client.options import CHAT, TEXT, OpenAiOptions
from llmval_runners.openai_client.probe import Probe, Served
from llmval_runners.openai_client.prompts import Bodies, read_prompts, read_trace
from llmval_runners.openai_client.window import ServerWindow
from llmval_runners.process.errors import FAILED_EXIT, Refused, ended_by
from llmval_runners.process.events import EventLog
from llmval_runners.process.output import OutputFile, show, where_of
from llmval_runners.process.rank_main import Rank
from llmval_runners.process.record import RunRecord
from llmval_runners.process.redaction import MASK
from llmval_runners.process.shutdown import StopSignals

# Under llmval, which asks the server for its counters once a second: between the warm-up and the window it must have
# asked once, or the counters of the window would hold the warm-up too.
RECORDED_BY, SETTLE_S = "LLMVAL_RUN_FOLDER", 2.2

UNKNOWN = "the server is another program: it does not report its weights, precision, kernels or devices"
NO_METER = "the client does not meter the server's GPUs; the telemetry of the run does"


class Interrupted(Exception):
    """SIGINT or SIGTERM arrived."""


class OpenAiLoadTest:
    """The load test. `run` measures; `save_partial` saves the record so far if it ends early."""

    def __init__(self, options: OpenAiOptions, events: EventLog, rank: Rank) -> None:
        """Decide everything that needs no server. Raises Refused."""
        if rank.world_size > 1:
            raise Refused("one process loads the server: start it with plain Python, without torchrun.")
        self.options, self.events = options, events
        self.target = Target.parse(options.server.url)
        self._tls = tls_context(self.target, options.server.ca_file, options.server.insecure)
        self._prompts = read_prompts(options.prompts) if options.prompts else []
        self._trace = read_trace(options.trace) if options.trace else []
        self._load = self._next_load()
        self.output = OutputFile(options.output_json) if options.output_json is not None else None
        self._files = raise_file_limit()
        self.stop = StopSignals(self._emergency_save)
        self.window: ServerWindow | None = None
        self.search: Search | None = None
        self._served: Served | None = None
        self._bodies: Bodies | None = None
        self._failure: BaseException | None = None
        self.record = RunRecord(self.output, self.stop, events)

    def run(self) -> int:
        """Measure, write the result and return the exit code. Raises Refused, or any error of the work."""
        self.stop.install()
        thread = threading.Thread(target=self._loop, name="event loop", daemon=True)
        thread.start()
        thread.join()
        if self.stop.number is not None:
            self.save_partial(ended_by(self.stop.number))
            return self.stop.exit_code
        if self._failure is not None:
            raise self._failure
        code = self._save()
        self.stop.done()
        return code

    def finish(self) -> None:
        """Tell the signal guard that the record is written."""
        if self.output is not None:
            self.output.release()
        self.stop.done()

    def save_partial(self, why: str) -> None:
        """Save the measurement so far beside the path of the result, and show it."""
        if saved := self.record.early(lambda: self._result(why)):
            self._show(*saved)

    def describe_error(self, error: Exception) -> str:
        """The error in one sentence."""
        return self.clean(str(error) or type(error).__name__)

    def clean(self, text: str) -> str:
        """The text without the API key: servers repeat a wrong one in their messages."""
        key = self.options.server.key
        return text.replace(key, MASK) if key else text

    def _emergency_save(self, number: int) -> None:
        self.save_partial(ended_by(number))

    # -- the work, in the thread of the event loop

    def _loop(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._work())
        except BaseException as error:  # noqa: BLE001  (raised again in the main thread)
            self._failure = error

    async def _work(self) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def end() -> None:
            loop.call_soon_threadsafe(task.cancel)

        self.stop.on_signal.append(end)
        if self.stop.number is not None:
            raise Interrupted
        options = self.options
        connections = Connections(
            self.target, self._tls, key=options.server.key, connect_timeout_s=options.server.connect_timeout_s
        )
        try:
            self.events.phase("setup", f"asking {self.target}")
            probe = Probe(options, connections, self.clean)
            self._served = await probe.server()
            self._bodies = await probe.bodies(self._served, self._prompts)
            await probe.longest(self._bodies, self._longest_candidates(), self._served)
            if options.search is None:
                window = self._new_window(connections, self._load)
                await window.warm_up()
                if RECORDED_BY in os.environ and window.load.warmup:
                    await asyncio.sleep(SETTLE_S)
                await window.measure()
            else:
                await self._find_max_qps(connections, probe, options.search)
        finally:
            connections.close()

    async def _find_max_qps(self, connections: Connections, probe: Probe, options: SearchOptions) -> None:
        """Run the trials one after the other. The result has the window of the last one."""
        search = self.search = Search(
            SearchConfig(
                self.options.target_qps, options.max_qps, options.precision, options.widest, options.min_goodput,
                self.options.duration_s, self.options.seed, options.max_trials, options.confidence,
            )
        )  # fmt: skip
        assert self._bodies is not None
        while (planned := search.next()) is not None:
            load = self._next_load(planned.qps, planned.seed)
            window = self._new_window(connections, load, f"trial {planned.number}")
            await window.warm_up()
            await window.measure(self.options.slo, allowed_misses(options.min_goodput, len(load.arrivals)))
            trial = judge_trial([window.measured()], self.options.slo, options.min_goodput, planned)
            search.record(trial)
            report_trial(self.events, search, trial)
            await probe.settle(self._bodies)

    def _new_window(self, connections: Connections, load: Load, label: str | None = None) -> ServerWindow:
        options = self.options
        assert self._bodies is not None
        self.window = ServerWindow(
            connections, self._bodies, load, self.events,
            path=f"{self.target.base}/{'chat/' if options.server.api == CHAT else ''}completions", clean=self.clean,
            request_timeout_s=options.server.request_timeout_s, drain_timeout_s=options.drain_timeout_s,
            max_in_flight=options.max_in_flight, early_end=not options.server.ignore_eos, label=label,
        )  # fmt: skip
        return self.window

    def _next_load(self, qps: float | None = None, seed: int | None = None) -> Load:
        """The requests of one window. `qps` and `seed`: of a trial; None: the configured ones. Raises Refused."""
        options = self.options
        qps, seed = options.target_qps if qps is None else qps, options.seed if seed is None else seed
        warmup = schedule([0.0] * options.warmup, options.prompt, options.output, seed + 1)
        if self._trace:
            rate = (len(self._trace) - 1) / self._trace[-1].intended_s
            drawn = [Arrival(i, 0.0, a.input_tokens, a.output_tokens) for i, a in enumerate(self._trace[: len(warmup)])]
            return Load(self._trace, drawn, rate, len(self._trace) / rate, seed)
        times = arrival_times(qps, options.duration_s, options.burstiness, seed)
        return Load(schedule(times, options.prompt, options.output, seed), warmup, qps, options.duration_s, seed)

    def _longest_candidates(self) -> list[Arrival]:
        """The arrivals among which the longest request is. A search draws others for each trial."""
        options = self.options
        if options.search is not None and not self._prompts:
            return [Arrival(0, 0.0, options.prompt.most, options.output.most)]
        return [*self._load.arrivals, *self._load.warmup]

    # -- the record

    def _save(self) -> int:
        """Write the record, show the last screen, and return the exit code."""
        self.events.phase("report")
        result = self.record.complete(lambda: self._result(None))
        path = self.options.output_json
        shown = self._show(result, path)
        # llmval judges the record itself, and reads the code as "is it written".
        if path is not None and self.events.recording:
            return 0
        return int(result["llmval"]["verdict"]["exit_code"]) if shown else FAILED_EXIT

    def _show(self, result: dict[str, Any], path: Path | None) -> bool:
        """False if the record was for standard output and is lost."""
        self.events.clear()
        where = where_of(path, self.output)
        return show(
            self.options.report, result, result["llmval"]["verdict"], lambda: last_screen(result, where, NO_METER)
        )

    def _result(self, ended_early: str | None) -> dict[str, Any]:
        window = self.window
        load = window.load if window else self._load
        measured = window.measured(ended_early) if window else Measured([], load.arrivals, 0.0, ended_early)
        search = search_record(self.search) if self.search is not None else None
        result = load_test_result([measured], self._identity(), self._workload(load), {}, self.options.slo, search)
        if window is not None and window.own_failures:
            mark_invalid(result, f"{window.own_failures:,} requests failed in the client itself: {window.own_failure}")
        return result

    def _identity(self) -> dict[str, Any]:
        options, served = self.options, self._served
        nothing = (
            "parameters", "weights", "dtype", "kv_dtype", "attention_backend", "attention_kernel", "fp8_mode",
            "compile_mode", "tensor_parallel", "device", "device_name", "torch_version", "shape",
        )  # fmt: skip
        return {
            "api": options.server.api,
            "backend": "openai-chat" if options.server.api == CHAT else "openai",
            "model": served.model if served else options.server.model or "not known",
            "tokenizer": "the server's" if options.prompt_format == TEXT else "none: random token ids",
            "seed": options.seed,
            **dict.fromkeys(nothing),
            "unknown": UNKNOWN,
            "server": {
                "url": str(self.target),
                "engine": served.engine if served else None,
                "software": served.software if served else None,
                "version": served.version if served else None,
                "max_model_len": served.max_model_len if served else None,
                "tls": self.target.scheme == "https",
                "certificate_checked": self.target.scheme == "https" and not options.server.insecure,
                "client": f"httptools {version('httptools')}, uvloop {version('uvloop')}, Python {python_version()}",
            },
        }

    def _workload(self, load: Load) -> dict[str, Any]:
        options = self.options
        return {
            "target_qps": load.target_qps,
            "duration_s": load.duration_s,
            "burstiness": None if self._trace else recorded_burstiness(options.burstiness),
            "prompt_len": _source(options.trace or options.prompts) or str(options.prompt),
            "output_len": _source(options.trace) or str(options.output),
            "warmup_requests": len(load.warmup),
            "max_in_flight": options.max_in_flight,
            "temperature": options.server.temperature,
            "seed": load.seed,
            "max_batch": None,
            "prefill_chunk": None,
            "prompt_format": options.prompt_format,
            "text_fit": self._bodies.fit.as_json() if self._bodies and self._fitted else None,
            "ignore_eos": options.server.ignore_eos,
            "extra_body": options.server.extra_body,
            "request_timeout_s": options.server.request_timeout_s,
            "drain_timeout_s": options.drain_timeout_s,
            "trace": _file(options.trace),
            "prompts": _file(options.prompts),
        }

    @property
    def _fitted(self) -> bool:
        return self.options.prompt_format == TEXT and not self._prompts


def _source(path: Path | None) -> str | None:
    return None if path is None else f"as in {path}"


def _file(path: Path | None) -> dict[str, str] | None:
    """The path and SHA-256 of an input, for whoever repeats the load."""
    return None if path is None else {"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
