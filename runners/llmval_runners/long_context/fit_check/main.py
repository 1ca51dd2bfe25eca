"""Checks the memory prediction: predicts many combinations, then runs each, including those predicted not to fit."""

import importlib.util
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from llmval_runners.engine.attention.cudnn_sizes import CUDNN_MULTIPLE
from llmval_runners.long_context.fit_check.cases import FITS, FITS_NOT, Case, draw
from llmval_runners.long_context.fit_check.options import FitCheckOptions, parse
from llmval_runners.process.errors import USAGE_EXIT, Refused
from llmval_runners.process.files import write_json

if TYPE_CHECKING:
    import torch
    from llmval_runners.engine.parallel import Parallel
    from llmval_runners.long_context.fit_check.report import Row
    from llmval_runners.long_context.setup import Setup


def main(argv: list[str]) -> NoReturn:
    """Run and exit: 0 all predictions were right, 1 one was wrong or a run did not end, 2 refused."""
    rank, ranks, local = (
        int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    )
    try:
        code = _check(parse(argv), rank, ranks, local)
    except Refused as refusal:
        print(f"refused: {refusal}", file=sys.stderr, flush=True)
        code = USAGE_EXIT
    except Exception:  # noqa: BLE001  (any failure must end the process as below)
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    if ranks > 1:
        os._exit(code)  # not sys.exit: shutdown may wait for a rank that is gone, or for NCCL (`Parallel.close`)
    sys.exit(code)


def _check(options: FitCheckOptions, rank: int, ranks: int, local: int) -> int:
    import torch
    from llmval_runners.engine.config import choose_device
    from llmval_runners.engine.parallel import Parallel
    from llmval_runners.long_context.fit_check.report import summary
    from llmval_runners.long_context.fit_check.trial import free_everything

    device = choose_device(options.device, ranks=ranks, local_rank=local)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    shared = Parallel(device, rank, ranks)
    shared.warm_up_nccl(8192 * 8192 if device.type == "cuda" else 1)  # before memory is counted
    on_gpu = device.type == "cuda"
    more = {name: bool(shared.min_over_ranks(loads)) for name, loads in _optional(device).items()} if on_gpu else {}
    free_everything(device)
    cases = draw(options.combinations, options.seed, ranks, on_gpu=on_gpu, flex=options.flex, **more)
    trials = _Trials(options, shared, Parallel(device))
    try:
        for case in cases[options.first :]:
            trials.run(case)
    finally:
        trials.save(partial=len(trials.rows) < len(cases) - options.first)
    if rank == 0:
        print(summary(trials.rows))
    shared.close()
    return 0 if all(row.right is not False for row in trials.rows) else 1


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

    def __init__(self, options: FitCheckOptions, shared: "Parallel", alone: "Parallel") -> None:
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
        if self._shared.rank == 0:
            print(table(self.rows[-1:], head=len(self.rows) == 1), flush=True)
        self.save(partial=True)

    def save(self, *, partial: bool) -> None:
        """Write the rows so far; on rank 0 only."""
        from llmval_runners.long_context.fit_check.report import record

        path = self._options.output_json
        if path is not None and self._shared.rank == 0:
            seconds = time.perf_counter() - self._began
            write_json(path, record(self.rows, self._shared, self._options, seconds, partial=partial))

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
        print(
            f"combination {case.index} did not end within {self._options.patience_s} s ({where}). With several GPUs, "
            "one may have run out of memory in a step in which the others wait for it. The combinations before it "
            f"are kept: go on with --first {case.index + 1}, or wait longer with --patience-s.",
            file=sys.stderr,
            flush=True,
        )
        self.save(partial=True)
        os._exit(1)


class _Deadline:
    """Calls `on_timeout` if the work inside takes too long: a collective without one of its ranks never ends."""

    def __init__(self, seconds: float, on_timeout: Callable[[], None]) -> None:
        self._timer = threading.Timer(seconds, on_timeout)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
