"""The command line of the analyzer."""

import argparse
import hashlib
import sys
from pathlib import Path
from typing import NoReturn

from llmval_runners.power.analysis import markdown, plot
from llmval_runners.power.analysis.summary import read_all, summarise
from llmval_runners.process.arguments import Parser
from llmval_runners.process.errors import USAGE_EXIT, Refused
from llmval_runners.process.events import EventLog
from llmval_runners.process.files import replace_bytes, write_json


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
        allow_abbrev=False,
    )
    root.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="result files, for example power_results/20260102/*.json"
    )
    root.add_argument(
        "--output", type=Path, required=True, metavar="JSON", help="the summary to write; missing folders are created"
    )
    root.add_argument("--price-per-kwh", type=_money, default=0.16, metavar="USD", help="default 0.16")
    root.add_argument("--pue", type=_pue, default=1.5, help="power usage effectiveness of the site (default 1.5)")
    return root


def run_analyzer(argv: list[str]) -> NoReturn:
    """Summarise and exit: 0 written, 1 could not be written, 2 refused (bad flags, or no supported file)."""
    events = EventLog(0)
    try:
        options = parser().parse_args(argv)
        if options.output.suffix != ".json":
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
    except Refused as refusal:
        print(f"refused: {refusal}", file=sys.stderr)
        if events.recording:
            events.error("refused", str(refusal))
        sys.exit(USAGE_EXIT)
    for item in refused:
        events.warning("file_refused", f"{item['path']}: {item['reason']}")
    summary = summarise(inputs, refused, options.price_per_kwh, options.pue)
    try:
        write_json(options.output, summary)
        digest = hashlib.sha256(options.output.read_bytes()).hexdigest()
        tables = markdown.render(summary, str(options.output), digest)
        replace_bytes(options.output.with_suffix(".md"), tables.encode())
        replace_bytes(options.output.with_suffix(".svg"), plot.render(summary).encode())
    except OSError as error:
        print(f"{options.output} could not be written: {error.strerror}", file=sys.stderr)
        sys.exit(1)
    events.result(str(options.output))
    counts = ", ".join(f"{count} {name}" for name, count in summary["counts"].items() if count)
    print(
        f"{options.output}: {counts or 'no cells of a sweep'}; tables {options.output.with_suffix('.md')}, plot "
        f"{options.output.with_suffix('.svg')}"
    )
    events.close()
    sys.exit(0)
