"""What every entry script has in common: one answer to bad input, one end for each way to end."""

import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import NoReturn

from llmval_runners.process.errors import USAGE_EXIT, Refused
from llmval_runners.process.events import EventLog

FOLLOWERS_WAIT_S = 10.0


def run_load_test(argv: list[str]) -> NoReturn:
    """Run the load test and exit: 0 done, 1 failed, 2 refused, 130 and 143 ended by SIGINT and SIGTERM."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(
            number, signal.SIG_DFL
        )  # until there is something to save; an import can swallow KeyboardInterrupt
    rank, world_size, local_rank = (int(os.environ.get(name, default)) for name, default in _TORCHRUN)
    from llmval_runners.load_test.options import parse

    events: EventLog | None = None
    try:
        options = parse(argv)
        events = EventLog(rank).start()
        from llmval_runners.engine.parallel import RankLost
        from llmval_runners.load_test.session import (  # imports torch: after the flags are known to be right
            Interrupted,
            LoadTest,
        )

        test = LoadTest(options, events, rank=rank, world_size=world_size, local_rank=local_rank)
    except Refused as refusal:
        _refuse(refusal, events or EventLog(rank), rank)
    try:
        code = test.run()
        test.close()
    except Refused as refusal:
        _refuse(refusal, events, rank)
    except Interrupted:
        code = test.stop.exit_code if test.stop.number else 143
        test.keep_partial(f"ended by signal {code - 128}")
    except RankLost as error:
        events.error("dead_rank", str(error))
        test.keep_partial(str(error))
        test.keep_for_rank_0(str(error))
        code = 1
    except Exception as error:  # noqa: BLE001  (the one place that turns any failure into a record and an exit code)
        traceback.print_exc()
        words = test.explain(error)
        events.error(type(error).__name__, f"rank {rank}: {words}")
        test.keep_partial(f"rank {rank} failed: {words}")
        test.keep_for_rank_0(f"rank {rank} failed: {words}")  # not every loss of a peer is told as one
        code = 1
    test.stop.done()
    events.close()
    sys.stdout.flush()
    sys.stderr.flush()
    if code or world_size > 1:
        # Not sys.exit: interpreter shutdown may wait for collectives of a rank that is gone, or NCCL's for graphs.
        os._exit(code)
    sys.exit(0)


def run_engine_benchmark(argv: list[str]) -> NoReturn:
    """Run the engine benchmark and exit: 0 done, 1 failed, 2 refused; a signal ends it at once."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    rank, world_size, local_rank = (int(os.environ.get(name, default)) for name, default in _TORCHRUN)
    from llmval_runners.benchmark.options import parse

    events: EventLog | None = None
    try:
        options = parse(argv)
        asked = options.tensor_parallel_gpus
        if "RANK" not in os.environ and asked is not None and asked > 1:
            from llmval_runners.process.launch_ranks import launch

            sys.exit(launch(argv, asked, Path(sys.argv[0]).resolve()))
        if asked is not None and asked != world_size:
            raise Refused(
                f"torchrun started {world_size} ranks and --tensor-parallel-gpus is {asked}: make the two the same, or "
                "start this by plain python, which starts torchrun itself."
            )
        events = EventLog(rank).start()
        from llmval_runners.benchmark.benchmark import Benchmark  # imports torch: after the flags are known to be right
        from llmval_runners.engine.parallel import RankLost

        benchmark = Benchmark(options, events, rank=rank, world_size=world_size, local_rank=local_rank)
    except Refused as refusal:
        _refuse(refusal, events or EventLog(rank), rank)
    try:
        code = benchmark.run()
    except Refused as refusal:
        _refuse(refusal, events, rank)
    except RankLost as error:
        print(f"rank {rank} ends: {error}", file=sys.stderr, flush=True)
        if events.recording:
            events.error("dead_rank", str(error))
        code = 1
    except Exception as error:  # noqa: BLE001  (any failure becomes a record and an exit code, as in the load test)
        traceback.print_exc()
        events.error(type(error).__name__, f"rank {rank}: {error}")
        code = 1
    events.close()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: shutdown may wait for collectives of a rank that is gone, and NCCL's for graphs that still exist.
    os._exit(code)


_TORCHRUN = (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))


def _refuse(refusal: Refused, events: EventLog, rank: int) -> NoReturn:
    """Say it once, on rank 0. The others wait to be ended by torchrun, which would otherwise end rank 0 unheard."""
    if rank == 0:
        print(f"refused: {refusal}", file=sys.stderr, flush=True)
        if events.recording:  # on a terminal the line above has said it
            events.error("refused", str(refusal))
    else:
        time.sleep(FOLLOWERS_WAIT_S)
        print(f"rank {rank} refused: {refusal}", file=sys.stderr, flush=True)
        events.error("refused", f"rank {rank}: {refusal}")
    events.close()
    os._exit(USAGE_EXIT)
