"""The command line of the analyzer."""

import argparse
import hashlib
import sys
from pathlib import Path
from typing import NoReturn

from llmval_runners.power.analysis import markdown, plot
from llmval_runners.power.analysis.last_screen import last_screen, verdict_of
from llmval_runners.power.analysis.summary import read_all, summarise
from llmval_runners.process.arguments import Parser
from llmval_runners.process.errors import FAILED_EXIT, GOOD_EXIT, Refused, exit_codes
from llmval_runners.process.events import EventLog
from llmval_runners.process.files import check_writable, replace_bytes
from llmval_runners.process.output import (
    FLAG,
    STDOUT,
    OutputFile,
    Report,
    add_report_flags,
    check_stdout,
    flush_streams,
    guard_streams,
    move_aside,
    say,
    show,
    where_of,
)
from llmval_runners.process.rank_main import refuse
from llmval_runners.process.verdict import Verdict

EXIT_CODES = (
    exit_codes(
        "written, with at least one valid figure",
        "a file could not be written",
        "no cell is valid, so nothing is compared",
    )
    + " Under llmval, which judges the summary itself: 0 if it was written."
)
EXAMPLES = """\
examples:
  python power_efficiency_analyzer.py power_results/today/*.json \\
      --output power_results/today/summary.json
  python power_efficiency_analyzer.py cells/*.json --output - \\
      --price-per-kwh 0.2
"""


def _money(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a price")
    return value


def _pue(text: str) -> float:
    value = float(text)
    if not 1 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is below 1, but a site cannot use less energy than its machines")
    return value


def parser() -> argparse.ArgumentParser:
    """The flags of `power_efficiency_analyzer.py`."""
    root = Parser(
        prog="power_efficiency_analyzer.py",
        description="Summarises cells of precision_power_sweep.py: tokens per joule, cost, FP8 against 16 bits, best "
        "cells and the Pareto front of throughput and efficiency. Writes JSON, and Markdown tables (.md) and a "
        "plot (.svg) beside it. Also lists results of vLLM, TensorRT-LLM, AIPerf and genai-perf that contain energy.",
        examples=EXAMPLES,
        exit_codes=EXIT_CODES,
    )
    root.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="result files, for example power_results/20260102/*.json"
    )
    root.add_argument(
        "--output", FLAG, "--json", dest="output", type=Path, required=True, metavar="FILE",
        help="the summary to write; missing folders are created, an earlier one is moved aside; - prints it on "
        "standard output in place of the last screen, without tables and plot",
    )  # fmt: skip
    add_report_flags(root)
    root.add_argument("--price-per-kwh", type=_money, default=0.16, metavar="USD", help="default 0.16")
    root.add_argument("--pue", type=_pue, default=1.5, help="power usage effectiveness of the site (default 1.5)")
    return root


def run_analyzer(argv: list[str]) -> NoReturn:
    """Summarise and exit with the code of `EXIT_CODES`."""
    guard_streams()
    file: OutputFile | None = None
    try:
        options = parser().parse_args(argv)
        report = Report(options.quiet, as_json=options.output == STDOUT)
        if report.as_json:
            check_stdout("--output")
        events = EventLog(0, report=report)
        if not report.as_json and options.output.suffix != ".json":
            raise Refused(
                f"--output {options.output} must end in .json: the tables and the plot go beside it as .md and .svg."
            )
        if options.output.resolve() in {path.resolve() for path in options.files}:
            raise Refused(f"--output {options.output} is also one of the input files: pass another path.")
        inputs, refused = read_all(options.files)
        if not inputs:
            raise Refused(
                f"none of the {len(refused)} files is a result; {refused[0]['path']}: {refused[0]['reason']}."
            )
        if not report.as_json:
            for path in (options.output.with_suffix(suffix) for suffix in (".md", ".svg")):
                check_writable(path, FLAG)
            file = OutputFile(options.output)
    except Refused as refusal:
        refuse(refusal, None, 0)
    for item in refused:
        events.warning("file_refused", f"{item['path']}: {item['reason']}")
    summary = summarise(inputs, refused, options.price_per_kwh, options.pue)
    verdict = verdict_of(summary)
    summary["verdict"] = verdict.as_json()
    if file is None:
        shown = show(report, summary, summary["verdict"], lambda: "")
        sys.exit(_code(verdict, events) if shown else FAILED_EXIT)
    try:
        file.write(summary)
        for path in (options.output.with_suffix(suffix) for suffix in (".md", ".svg")):
            move_aside(path)
        digest = hashlib.sha256(options.output.read_bytes()).hexdigest()
        tables = markdown.render(summary, str(options.output), digest)
        replace_bytes(options.output.with_suffix(".md"), tables.encode())
        replace_bytes(options.output.with_suffix(".svg"), plot.render(summary).encode())
    except OSError as error:
        say(f"{options.output} could not be written: {error.strerror}", to_stderr=True)
        file.release()
        sys.exit(FAILED_EXIT)
    file.release()
    events.result(str(options.output), shown=False)
    where = where_of(options.output, file)
    show(report, summary, summary["verdict"], lambda: last_screen(summary, where))
    events.close()
    flush_streams()
    sys.exit(_code(verdict, events))


def _code(verdict: Verdict, events: EventLog) -> int:
    """llmval judges the summary itself: 0 if it was written."""
    return GOOD_EXIT if events.recording else verdict.exit_code
