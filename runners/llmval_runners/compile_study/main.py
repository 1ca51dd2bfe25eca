"""The modes of `torch_compile_repro.py`: runner, rank, watchdog, self-test, repacker or table."""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from llmval_runners.compile_study.bundle.layout import SCRIPT, Layout
from llmval_runners.compile_study.options import StudyOptions, parse
from llmval_runners.process.errors import USAGE_EXIT, Refused
from llmval_runners.process.events import EventLog
from llmval_runners.process.files import read_json, replace_bytes
from llmval_runners.process.output import flush_streams, guard_streams, say
from llmval_runners.process.rank_main import check_place
from llmval_runners.process.shutdown import end_on_signals

FOLLOWERS_WAIT_S = 60.0


def main(argv: list[str]) -> NoReturn:
    """Run and exit, with the codes that `--help` lists."""
    guard_streams()
    check_place()
    try:
        code = _run(parse(argv), argv)
    except Refused as refusal:
        say(f"refused: {refusal}", to_stderr=True)
        with suppress(Refused):  # the file of events may be what is refused
            events = EventLog(int(os.environ.get("RANK", 0)), path=os.environ.get("LLMVAL_EVENTS") or os.devnull)
            events.error("refused", str(refusal))
        code = USAGE_EXIT
    flush_streams()
    sys.exit(code)


def _run(options: StudyOptions, argv: list[str]) -> int:
    if options.watch:
        return _watch(Layout(options.watch))
    if options.repack:
        return _repack(Layout(options.repack), include_model_code=options.include_model_code)
    if options.table:
        from llmval_runners.compile_study.bundle.table import table

        print(table(options.table), end="")
        return 0
    if options.self_test:
        from llmval_runners.compile_study.selftest.selftest import self_test

        return self_test(options)
    return _rank(options, argv) if "RANK" in os.environ else _study(options, argv)


def _study(options: StudyOptions, argv: list[str]) -> int:
    end_on_signals()  # until the study has handlers of its own
    from llmval_runners.compile_study.run.study import Study

    events = EventLog(0, report=options.report)
    try:
        return Study(options, argv, events).run()
    finally:
        events.close()


def _rank(options: StudyOptions, argv: list[str]) -> int:
    """A rank of the runner's torchrun, or of the operator's. Under the operator's, local rank 0 prepares the study."""
    from llmval_runners.compile_study.run import rank
    from llmval_runners.compile_study.run.study import FOLDER_VARIABLE

    folder = os.environ.get(FOLDER_VARIABLE)
    if folder is None:
        assert options.output_dir is not None  # `parse` refuses a study without it
        folder = str(options.output_dir.absolute())
        token = os.environ.get("TORCHELASTIC_RUN_ID", "") + os.environ.get("MASTER_PORT", "")
        if os.environ["RANK"] == "0":
            _prepare_for_torchrun(options, [str(SCRIPT), *argv], token)
        else:
            _await_preparation(Layout(Path(folder)), token)
    layout = Layout(Path(folder))
    run = read_json(layout.run)
    if run is None:
        raise Refused(
            f"{layout.run} is missing: start torch_compile_repro.py with plain Python, or without {FOLDER_VARIABLE} in "
            f"the environment."
        )
    return rank.run(StudyOptions.from_json(run["options"]), layout, run["cache_dir"])


def _prepare_for_torchrun(options: StudyOptions, command: list[str], token: str) -> None:
    from llmval_runners.compile_study.run.prepare import prepare
    from llmval_runners.compile_study.run.study import start_watchdog

    size = int(os.environ["WORLD_SIZE"])
    if size != options.tensor_parallel_gpus:
        raise Refused(
            f"torchrun started {size} ranks and --tensor-parallel-gpus is {options.tensor_parallel_gpus}: make "
            "them equal."
        )
    layout, _ = prepare(options, command)
    replace_bytes(layout.torchrun_token, token.encode())
    start_watchdog(layout)


def _await_preparation(layout: Layout, token: str) -> None:
    path, deadline = layout.torchrun_token, time.monotonic() + FOLLOWERS_WAIT_S
    while time.monotonic() < deadline:
        if path.is_file() and path.read_text() == token:
            return
        time.sleep(0.1)
    raise Refused(f"rank 0 has not prepared {layout.root} in {FOLLOWERS_WAIT_S:g} s: its own log says why.")


def _watch(layout: Layout) -> int:
    """Watch until the end. Complete the bundle if there is no runner to do it."""
    import signal

    from llmval_runners.compile_study.run.study import complete
    from llmval_runners.compile_study.watch.processes import read_process
    from llmval_runners.compile_study.watch.watchdog import Watchdog

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    runner = read_process(os.getppid())
    under_torchrun = layout.torchrun_token.is_file()
    Watchdog(layout).run()
    parent = read_process(os.getppid())
    orphaned = runner is None or parent is None or (parent.pid, parent.start) != (runner.pid, runner.start)
    if under_torchrun or orphaned:
        options = StudyOptions.from_json((read_json(layout.run) or {})["options"])
        why = "the run was started by torchrun" if under_torchrun else "the runner was gone"
        complete(
            layout,
            include_model_code=options.include_model_code,
            signal_number=None,
            notes=[f"packed by the watchdog: {why}"],
            collect=not options.no_collect_env,
        )
    return 0


def _repack(layout: Layout, *, include_model_code: bool) -> int:
    from llmval_runners.compile_study.bundle import bundle

    if not layout.run.is_file():
        raise Refused(f"{layout.root} has no study (run.json): name the --output-dir of a study.")
    if pids := _running_ranks(layout):
        raise Refused(
            f"the study in {layout.root} still runs (pid {', '.join(map(str, pids))}): pack it after it has ended."
        )
    if layout.partial.exists() or not layout.result.is_file():
        from llmval_runners.compile_study.run.study import complete

        note = "packed by --repack: runner and watchdog ended before everything was written"
        complete(
            layout, include_model_code=include_model_code, signal_number=None, notes=[note], collect=False, gone=True
        )
    manifest = bundle.pack(layout, include_model_code=include_model_code)
    print(
        f"packed {len(manifest['files'])} files into {layout.archive}; redacted: "
        f"{', '.join(manifest['redacted']) or 'none'}"
    )
    return 0


def _running_ranks(layout: Layout) -> list[int]:
    """The pids of the study's ranks that still run."""
    from llmval_runners.compile_study.watch.processes import read_process

    beats = [beat for path in layout.watch.glob("rank*.heartbeat.json") if (beat := read_json(path)) is not None]
    return [
        beat["pid"]
        for beat in beats
        if (process := read_process(beat["pid"])) is not None
        and process.start == beat["start"]
        and process.state != "Z"
    ]
