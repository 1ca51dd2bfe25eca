"""Checks the memory prediction: predicts many combinations, then runs each, including those predicted not to fit."""

import importlib.util
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from llmval_runners.engine.attention.cudnn_sizes import CUDNN_MULTIPLE
from llmval_runners.long_context.fit_check.cases import FITS, FITS_NOT, Case, draw
from llmval_runners.long_context.fit_check.options import FitCheckOptions, parse
from llmval_runners.process.errors import FAILED_EXIT, GOOD_EXIT, UNDECIDED_EXIT, USAGE_EXIT, Refused, ended_by
from llmval_runners.process.files import check_writable
from llmval_runners.process.output import FLAG, OutputFile, flush_streams, guard_streams, say, show, where_of
from llmval_runners.process.rank_main import Rank
from llmval_runners.process.shutdown import StopSignals, end_on_signals, say_nothing_measured

if TYPE_CHECKING:
    import torch
    from llmval_runners.engine.parallel import Parallel
    from llmval_runners.long_context.fit_check.report import Row
    from llmval_runners.long_context.setup import Setup


def main(argv: list[str]) -> NoReturn:
    """Run and exit with the code of `options.EXIT_CODES`."""
    guard_streams()
    here = Rank.of_this_process()
    end_on_signals()
    try:
        code = _check(parse(argv), here)
    except Refused as refusal:
        if here.rank == 0:
            say(f"refused: {refusal}", to_stderr=True)
        code = USAGE_EXIT
    except Exception:  # noqa: BLE001  (any failure must end the process as below)
        traceback.print_exc()
        code = FAILED_EXIT
    flush_streams()
    if here.world_size > 1:
        os._exit(code)  # not sys.exit: shutdown may wait for a rank that is gone, or for NCCL (`Parallel.close`)
    sys.exit(code)


def _check(options: FitCheckOptions, here: Rank) -> int:
    import torch
    from llmval_runners.engine.config import choose_device
    from llmval_runners.engine.parallel import Parallel
    from llmval_runners.long_context.fit_check.trial import free_everything

    if options.output_json is not None:
        check_writable(options.output_json, FLAG)
    device = choose_device(options.device, local_ranks=here.local_world_size, local_rank=here.local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    stop = StopSignals(say_nothing_measured)  # until the first trial
    stop.install()
    shared = Parallel(device, here.rank, here.world_size)
    shared.warm_up_nccl(8192 * 8192 if device.type == "cuda" else 1)  # before memory is counted
    on_gpu = device.type == "cuda"
    more = {name: bool(shared.min_over_ranks(loads)) for name, loads in _optional(device).items()} if on_gpu else {}
    free_everything(device)
    cases = draw(options.combinations, options.seed, here.world_size, on_gpu=on_gpu, flex=options.flex, **more)
    trials = _Trials(options, shared, Parallel(device), stop)
    try:
        for case in cases[options.first :]:
            trials.run(case)
    except BaseException as error:
        trials.end(f"failed with {type(error).__name__}: {error}", FAILED_EXIT)
        raise
    code = trials.end(None, GOOD_EXIT)
    shared.close()
    return code


def _optional(device: "torch.device") -> dict[str, bool]:
    """Whether the optional features of `draw` are installed and load. Prints the reason if one is installed only."""
    from llmval_runners.engine import fp8
    from llmval_runners.engine.attention import cudnn_fp8

    packages: dict[str, tuple[str, Callable[[], object]]] = {
        "transformer_engine": ("transformer_engine", fp8.load_transformer_engine),
        "fp8_prefill": ("cudnn", lambda: cudnn_fp8.fp8_sdpa(device)),
    }
    found = {name: importlib.util.find_spec(package) is not None for name, (package, _) in packages.items()}
    for name in [name for name in found if found[name]]:
        package, load = packages[name]
        try:
            load()
        except Refused as refusal:
            found[name] = False
            print(f"no combination uses {package}: {refusal}", file=sys.stderr, flush=True)
    return found


class _Trials:
    """All ranks run the same combination at the same time, and agree on its outcome before the next one."""

    def __init__(self, options: FitCheckOptions, shared: "Parallel", alone: "Parallel", stop: StopSignals) -> None:
        path = options.output_json
        self.file = OutputFile(path) if path is not None and shared.rank == 0 else None
        self._stop = stop
        self._ended = threading.Lock()  # held from the end on
        stop.on_signal.append(self._on_signal)
        self._options, self._shared, self._alone = options, shared, alone
        self._warm: set[tuple[Setup, bool]] = set()
        self._began = time.perf_counter()
        self.rows: list[Row] = []

    def run(self, case: Case) -> None:
        """Run the combination and add its row. Raises any error except running out of memory."""
        from llmval_runners.long_context.fit_check.report import Row, table
        from llmval_runners.long_context.fit_check.trial import run
        from llmval_runners.long_context.measure.timing import RunControl

        control = RunControl(lambda: False, lambda *_: None)
        began = time.perf_counter()
        with _Deadline(self._options.patience_s, lambda: self._give_up(case, control.where)):
            parallel = self._shared if case.setup.tensor_parallel > 1 else self._alone
            self._warm_up(case, parallel)
            outcome = run(case, parallel, control)
            ran = outcome.out_of_memory is None
            all_ran, any_ran = self._shared.min_over_ranks(ran), -self._shared.min_over_ranks(-ran)
            peak = -self._shared.min_over_ranks(-outcome.peak_bytes)
        seconds = time.perf_counter() - began
        self.rows.append(Row(case, FITS if all_ran else FITS_NOT, bool(all_ran == any_ran), outcome, peak, seconds))
        report = self._options.report
        if self._shared.rank == 0 and not report.quiet:
            say(table(self.rows[-1:], head=len(self.rows) == 1), to_stderr=report.as_json)
        if self.file is not None:
            self.file.write_partial(self._record("not all combinations have run"))

    def end(self, early: str | None, code: int) -> int:
        """Write the record, show it, and return the exit code: the verdict's if the check came to its end."""
        from llmval_runners.long_context.fit_check.report import last_screen

        if self._shared.rank != 0 or not self._ended.acquire(blocking=False):
            return code
        record, written = self._record(early), None
        if self.file is not None:
            with self._stop.protect_write():
                (self.file.write_partial if early else self.file.write)(record)
            written = self.file.partial if early else self.file.path
            self.file.release()
        where = where_of(written, self.file)
        shown = show(self._options.report, record, record["verdict"], lambda: last_screen(record, where))
        self._stop.done()
        if early:
            return code
        return int(record["verdict"]["exit_code"]) if shown else FAILED_EXIT

    def _on_signal(self) -> None:
        """In the guard thread: the main thread may be inside a step, or wait for a rank that has ended."""
        self.end(ended_by(self._stop.number), self._stop.exit_code)
        flush_streams()
        os._exit(self._stop.exit_code)

    def _record(self, early: str | None) -> dict[str, Any]:
        from llmval_runners.long_context.fit_check.report import record

        seconds = time.perf_counter() - self._began
        return record(self.rows, self._shared, self._options, seconds, early=early)

    def _warm_up(self, case: Case, parallel: "Parallel") -> None:
        """Load and compile the kernels of a new kind of combination first: their code takes device memory too."""
        from llmval_runners.long_context.fit_check.trial import run, whole_device
        from llmval_runners.long_context.measure.timing import RunControl

        setup = case.setup
        one_layer = replace(setup, shape=replace(setup.shape, layers=1))
        kind = (one_layer, case.length % CUDNN_MULTIPLE == 0)
        if not setup.on_gpu or kind in self._warm:
            return
        self._warm.add(kind)
        unlimited = replace(case, setup=one_layer, free_bytes=whole_device(parallel))
        run(unlimited, parallel, RunControl(lambda: False, lambda *_: None))

    def _give_up(self, case: Case, where: str) -> None:
        why = (
            f"combination {case.index} did not end within {self._options.patience_s} s ({where}). With several GPUs, "
            "one may have run out of memory in a step in which the others wait for it. The combinations before it "
            f"are kept: go on with --first {case.index + 1}, or wait longer with --patience-s"
        )
        if self._shared.rank == 0:
            self.end(why, UNDECIDED_EXIT)
        else:
            say(why, to_stderr=True)
        flush_streams()
        os._exit(UNDECIDED_EXIT)


class _Deadline:
    """Calls `on_timeout` if the work inside takes too long: a collective without one of its ranks never ends."""

    def __init__(self, seconds: float, on_timeout: Callable[[], None]) -> None:
        self._timer = threading.Timer(seconds, on_timeout)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
