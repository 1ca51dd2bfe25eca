"""The process of `long_context_validation.py`: refuses bad input in one sentence, and maps each end to an exit code."""

import os
import sys
import time
import traceback
from typing import NoReturn

from llmval_runners.long_context.options import LongContextOptions, parse
from llmval_runners.process.errors import Refused, ended_by
from llmval_runners.process.events import EventLog
from llmval_runners.process.output import flush_streams, guard_streams, say
from llmval_runners.process.placement import Placement
from llmval_runners.process.rank_main import check_place, refuse
from llmval_runners.process.shutdown import end_on_signals

PEERS_WAIT_S = 1.0  # time for another rank to write why it failed, before torchrun ends this one


def main(argv: list[str]) -> NoReturn:
    """Run and exit with the code of `options.EXIT_CODES`."""
    guard_streams()
    check_place()
    end_on_signals()
    rank, under_torchrun = int(os.environ.get("RANK", 0)), "RANK" in os.environ
    try:
        options = parse(argv)
        place = Placement.of_this_process(options.tensor_parallel_gpus) if under_torchrun else Placement()
        ranks = place.tensor_parallel if under_torchrun else options.tensor_parallel_gpus or 1
        if options.predict_only:
            code = _predict(options, ranks)
        elif ranks > 1 and not under_torchrun:
            code = _launch(argv, options, ranks)
        else:
            code = _measure(options, place)
    except Refused as refusal:
        refuse(refusal, None, rank)
    flush_streams()
    if "RANK" in os.environ:
        os._exit(code)  # not sys.exit: interpreter shutdown may wait for a rank that is gone, or NCCL for CUDA graphs
    sys.exit(code)


def _predict(options: LongContextOptions, ranks: int) -> int:
    from llmval_runners.long_context.predict_only import predict_only

    return predict_only(options, ranks)


def _launch(argv: list[str], options: LongContextOptions, ranks: int) -> int:
    import torch
    from llmval_runners.long_context.settings import check_devices, decide
    from llmval_runners.process.launch_ranks import launch

    check_devices(options, ranks)
    if not torch.cuda.is_available():  # on GPUs the ranks decide: this process must not hold a CUDA context there
        decide(options, Placement(0, ranks, 0, ranks, ranks))
    return launch(argv, ranks)


def _measure(options: LongContextOptions, place: Placement) -> int:
    from llmval_runners.engine.replicas import Replicas
    from llmval_runners.long_context import failure
    from llmval_runners.long_context.measure.timing import Interrupted
    from llmval_runners.long_context.session import Session  # imports torch, so after the flags are checked
    from llmval_runners.long_context.settings import decide
    from llmval_runners.process.errors import RankLost

    session, rank = None, place.rank
    events = EventLog(rank, report=options.report).start()
    try:
        session = Session(decide(options, place), events, place)
        code = session.run()
        session.close(code)
    except Refused as refusal:
        if session is None:
            Replicas(place).refuse(str(refusal))
        elif session.file is not None:
            session.file.release()
        events.close()
        raise
    except Interrupted:
        assert session is not None
        code = session.stop.exit_code
        session.save_partial(ended_by(code - 128))
    except RankLost as error:
        assert session is not None
        time.sleep(PEERS_WAIT_S)
        events.error("dead_rank", str(error))
        session.save_partial(str(error))
        code = 1
    except Exception as error:  # noqa: BLE001  (any failure becomes a record and an exit code)
        code = 1
        if session is not None and failure.is_out_of_memory(error):
            why = session.record_out_of_memory(error)
            say(why, to_stderr=True)
            time.sleep(PEERS_WAIT_S if place.world_size > 1 else 0)
        else:
            traceback.print_exc()
            why = f"rank {rank} failed with {type(error).__name__}: {error}"
            events.error(type(error).__name__, why)
        if session is not None:
            session.save_partial(why)
    if session is not None:
        session.stop.done()
        if session.file is not None:
            session.file.release()
    events.close()
    return code
