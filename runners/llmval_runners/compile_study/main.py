"""What `torch_compile_repro.py` does by how it is called: runner, rank, watchdog, self-test, repacker or table."""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from llmval_runners.compile_study.bundle.layout import SCRIPT, Layout
from llmval_runners.compile_study.options import parse
from llmval_runners.process.errors import USAGE_EXIT, Refused
from llmval_runners.process.events import EventLog
from llmval_runners.process.files import read_json, replace_bytes

FOLLOWERS_WAIT_S = 60.0


def main(argv: list[str]) -> NoReturn:
    """Run and exit, with the codes that `--help` lists."""
    try:
        options = parse(argv)
        if options.watch:
            _watch(Layout(options.watch))
            code = 0
        elif options.repack:
            code = _repack(options)
        elif options.table:
            from llmval_runners.compile_study.bundle.table import table

            print(table(options.table), end="")
            code = 0
        elif options.self_test:
            from llmval_runners.compile_study.selftest.selftest import self_test

            code = self_test(options)
        elif "RANK" in os.environ:
            code = _rank(options, argv)
        else:
            code = _study(options, argv)
    except Refused as refusal:
        print(f"refused: {refusal}", file=sys.stderr, flush=True)
        events = EventLog(int(os.environ.get("RANK", 0)), path=os.environ.get("LLMVAL_EVENTS") or os.devnull)
        events.error("refused", str(refusal))
        code = USAGE_EXIT
    sys.stdout.flush()
    sys.exit(code)


def _study(options: argparse.Namespace, argv: list[str]) -> int:
    from llmval_runners.compile_study.run.study import Study

    events = EventLog(0)
    try:
        return Study(options, argv, events).run()
    finally:
        events.close()


def _rank(options: argparse.Namespace, argv: list[str]) -> int:
    """A rank of the runner's own torchrun, or of the operator's: then local rank 0 prepares and starts the watchdog."""
    from llmval_runners.compile_study.run import rank
    from llmval_runners.compile_study.run.study import OF_RUN

    folder = os.environ.get(OF_RUN)
    if folder is None:
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
            f"{layout.run} is not there: start torch_compile_repro.py by plain python, or without {OF_RUN} in the "
            f"environment."
        )
    return rank.run(_options_of(run), layout, run["cache_dir"])


def _prepare_for_torchrun(options: argparse.Namespace, command: list[str], token: str) -> None:
    from llmval_runners.compile_study.run.prepare import prepare
    from llmval_runners.compile_study.run.study import start_watchdog

    size = int(os.environ["WORLD_SIZE"])
    if size != options.tensor_parallel_gpus:
        raise Refused(
            f"torchrun started {size} ranks and --tensor-parallel-gpus is {options.tensor_parallel_gpus}: make "
            f"the two the same."
        )
    layout = prepare(options, command)
    replace_bytes(layout.watch / "torchrun.token", token.encode())
    start_watchdog(layout)


def _await_preparation(layout: Layout, token: str) -> None:
    path, deadline = layout.watch / "torchrun.token", time.monotonic() + FOLLOWERS_WAIT_S
    while time.monotonic() < deadline:
        if path.is_file() and path.read_text() == token:
            return
        time.sleep(0.1)
    raise Refused(f"rank 0 has not prepared {layout.root} in {FOLLOWERS_WAIT_S:g} s: its own log says why.")


def _options_of(run: dict[str, Any]) -> argparse.Namespace:
    """The options as the runner resolved them; paths are text in `run.json`."""
    values = dict(run["options"])
    for name in ("checkpoint", "cache_dir", "output_dir"):
        values[name] = Path(values[name]) if values[name] else None
    return argparse.Namespace(**values)


def _watch(layout: Layout) -> None:
    """Watch to the end; and finish the bundle where the runner that would have done it is gone, or never was."""
    import signal

    from llmval_runners.compile_study.run.study import complete
    from llmval_runners.compile_study.watch.processes import read_process
    from llmval_runners.compile_study.watch.watchdog import Watchdog

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    runner = read_process(os.getppid())
    agent_is_ours = (layout.watch / "torchrun.token").is_file()
    Watchdog(layout).run()
    now = read_process(os.getppid())
    orphaned = runner is None or now is None or (now.pid, now.start) != (runner.pid, runner.start)
    if agent_is_ours or orphaned:
        run = read_json(layout.run) or {}
        note = (
            "packed by the watchdog: the run was started by torchrun"
            if agent_is_ours
            else "packed by the watchdog: the runner was gone"
        )
        complete(
            layout, _options_of(run), signal_number=None, notes=[note], collect=not run["options"]["no_collect_env"]
        )


def _repack(options: argparse.Namespace) -> int:
    from llmval_runners.compile_study.bundle import bundle

    layout = Layout(options.repack)
    if not layout.run.is_file():
        raise Refused(f"{options.repack} holds no study (run.json): name the folder that --output-dir named.")
    run = read_json(layout.run) or {}
    if alive := _alive(layout):
        raise Refused(
            f"the study in {layout.root} still runs (pid {', '.join(map(str, alive))}): pack it when it ended."
        )
    if layout.partial.exists() or not layout.result.is_file():
        from llmval_runners.compile_study.run.study import complete

        asked = _options_of(run)
        asked.include_model_code = options.include_model_code
        note = "packed by --repack: runner and watchdog were gone before all was written"
        complete(layout, asked, signal_number=None, notes=[note], collect=False, gone=True)
    manifest = bundle.pack(layout, include_model_code=options.include_model_code)
    print(
        f"packed {len(manifest['files'])} files into {layout.archive}; redacted: "
        f"{', '.join(manifest['redacted']) or 'none'}"
    )
    return 0


def _alive(layout: Layout) -> list[int]:
    """The pids of its ranks that still run."""
    from llmval_runners.compile_study.watch.processes import read_process

    beats = [beat for path in layout.watch.glob("rank*.heartbeat.json") if (beat := read_json(path)) is not None]
    return [
        beat["pid"]
        for beat in beats
        if (process := read_process(beat["pid"])) is not None
        and process.start == beat["start"]
        and process.state != "Z"
    ]
