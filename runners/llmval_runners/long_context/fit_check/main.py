"""The check of the prediction itself: many combinations predicted, then really tried, also those said not to fit."""

import argparse
import importlib.util
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from llmval_runners.engine.gpu.cudnn_sizes import CUDNN_MULTIPLE
from llmval_runners.load_test.options import Parser, count, natural
from llmval_runners.long_context.fit_check.cases import FITS, FITS_NOT, Case, draw
from llmval_runners.long_context.fit_check.report import Row, summary, table, value
from llmval_runners.process.errors import USAGE_EXIT, Refused

DESCRIPTION = """Draw combinations of shape, length, types and GPUs, each with a card of its own size; predict whether
it fits, with the code of long_context_validation.py; then try it on a card that allocations have made that small.
Several GPUs: torchrun --nproc_per_node N runners/fit_check.py"""


def main(argv: list[str]) -> NoReturn:
    """Run and exit: 0 all predictions were right, 1 one was wrong or a try did not end, 2 refused."""
    rank, ranks, local = (
        int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    )
    try:
        code = _check(_parser().parse_args(argv), rank, ranks, local)
    except Refused as refusal:
        print(f"refused: {refusal}", file=sys.stderr, flush=True)
        code = USAGE_EXIT
    except Exception:  # noqa: BLE001  (any failure ends the process as below, or it may not end)
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    if ranks > 1:
        os._exit(code)  # not sys.exit: shutdown may wait for a rank that is gone, or NCCL (`Parallel.close`)
    sys.exit(code)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="fit_check.py", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--combinations", type=count, default=50, metavar="N", help="default 50")
    parser.add_argument("--seed", type=natural, default=0)
    parser.add_argument("--flex", type=natural, default=0, metavar="N", help="how many use flex attention (slow)")
    parser.add_argument("--first", type=natural, default=0, metavar="N", help="go on at combination N")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--patience-s", type=count, default=120, metavar="S", help="for one of them; default 120")
    parser.add_argument("--output-json", type=Path, metavar="FILE")
    return parser


def _check(options: argparse.Namespace, rank: int, ranks: int, local: int) -> int:
    import torch
    from llmval_runners.engine.parallel import Parallel
    from llmval_runners.long_context.fit_check.trial import clean

    device = _device(options.device, local)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    shared = Parallel(device, rank, ranks)
    shared.connect(8192 * 8192 if device.type == "cuda" else 1)  # before memory is counted
    on_gpu = device.type == "cuda"
    more = {name: bool(shared.smallest(loads)) for name, loads in _optional(device).items()} if on_gpu else {}
    clean(device)
    cases = draw(options.combinations, options.seed, ranks, on_gpu=on_gpu, flex=options.flex, **more)
    tries = _Tries(options, shared, Parallel(device))
    try:
        for case in cases[options.first :]:
            tries.one(case)
    finally:
        tries.save(partial=len(tries.rows) < len(cases) - options.first)
    if rank == 0:
        print(summary(tries.rows))
    shared.close()
    return 0 if all(row.right is not False for row in tries.rows) else 1


def _optional(device: Any) -> dict[str, bool]:
    """What else can be drawn, by `draw`'s names: what is installed and loads. Says what is installed and does not."""
    from llmval_runners.engine import te_linear
    from llmval_runners.engine.attention import cudnn_fp8

    packages: dict[str, tuple[str, Callable[[], object]]] = {
        "transformer_engine": ("transformer_engine", te_linear.load),
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


def _device(asked: str, local: int) -> Any:
    import torch

    if asked == "cpu" or (asked == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise Refused("--device cuda was asked for, and torch finds no CUDA device here: pass --device cpu.")
    if local >= torch.cuda.device_count():
        raise Refused(f"torchrun started more ranks than there are GPUs: pass --nproc_per_node {local} or fewer.")
    return torch.device("cuda", local)


class _Tries:
    """Every rank tries the same combination at the same time, and all agree on what happened before the next one."""

    def __init__(self, options: argparse.Namespace, shared: Any, alone: Any) -> None:
        self._options, self._shared, self._alone = options, shared, alone
        self._warm: set[Any] = set()
        self._began = time.perf_counter()
        self.rows: list[Row] = []

    def one(self, case: Case) -> None:
        """Try it and keep its row. Raises what is no lack of memory."""
        from llmval_runners.long_context.fit_check.trial import run
        from llmval_runners.long_context.measure.timing import Report

        report = Report(lambda: False, lambda *_: None)
        began = time.perf_counter()
        with _Patience(self._options.patience_s, lambda: self._hangs(case, report.where)):
            parallel = self._shared if case.setup.tensor_parallel > 1 else self._alone
            self._warmed(case, parallel)
            outcome = run(case, parallel, report)
            ran = outcome.out_of_memory is None
            everyone, anyone = self._shared.smallest(ran), -self._shared.smallest(-ran)
            peak = -self._shared.smallest(-outcome.peak_bytes)
        row = Row(
            case, FITS if everyone else FITS_NOT, bool(everyone == anyone), outcome, peak, time.perf_counter() - began
        )
        self.rows.append(row)
        if self._shared.rank == 0:
            print(table([row], head=len(self.rows) == 1), flush=True)
        self.save(partial=True)

    def save(self, *, partial: bool) -> None:
        """Write what there is; rank 0 alone."""
        from llmval_runners.process.files import write_json

        path = self._options.output_json
        if path is not None and self._shared.rank == 0:
            seconds = time.perf_counter() - self._began
            write_json(path, value(self.rows, self._shared, self._options, seconds, partial=partial))

    def _warmed(self, case: Case, parallel: Any) -> None:
        """Load and compile the kernels of a kind of combination first: their code takes memory of the device too."""
        from llmval_runners.long_context.fit_check.trial import run, whole_card
        from llmval_runners.long_context.measure.timing import Report

        setup = case.setup
        few = replace(setup, shape=replace(setup.shape, layers=1))
        kind = (few, case.length % CUDNN_MULTIPLE == 0)
        if not setup.on_gpu or kind in self._warm:
            return
        self._warm.add(kind)
        run(replace(case, setup=few, free_bytes=whole_card(parallel)), parallel, Report(lambda: False, lambda *_: None))

    def _hangs(self, case: Case, where: str) -> None:
        print(
            f"combination {case.index} did not end within {self._options.patience_s} s ({where}): with several GPUs, "
            "one of them may have run out of memory in a step in which the others wait for it; what was tried before "
            f"is kept. Go on with --first {case.index + 1}, or wait longer with --patience-s.",
            file=sys.stderr,
            flush=True,
        )
        self.save(partial=True)
        os._exit(1)


class _Patience:
    """Calls `over` where the work inside takes too long: a collective that a rank has left never ends by itself."""

    def __init__(self, seconds: float, over: Callable[[], None]) -> None:
        self._timer = threading.Timer(seconds, over)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
