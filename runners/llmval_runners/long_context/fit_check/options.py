"""The flags of `fit_check.py`. Parsing needs no torch."""

from dataclasses import dataclass
from pathlib import Path

from llmval_runners.process.arguments import Parser, count, natural
from llmval_runners.process.errors import exit_codes
from llmval_runners.process.output import Report, add_output_flags, take_output

EXIT_CODES = exit_codes(
    "every prediction was right", "a prediction was wrong, or the check itself failed",
    "a combination did not end, or none was decided",
)  # fmt: skip
EXAMPLES = """\
examples:
  python fit_check.py --combinations 50 --output-json artifacts/fit_check.json
  torchrun --nproc_per_node 2 fit_check.py --first 20
  python fit_check.py --device cpu --combinations 5 --json -
"""
_DESCRIPTION = """Draw combinations of shape, length, dtypes and GPUs, each with its own limit of memory. Predict
whether each fits, with the code of long_context_validation.py, then run it with memory filled up to that limit.
Several GPUs: torchrun --nproc_per_node N runners/fit_check.py"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitCheckOptions:
    combinations: int
    seed: int
    flex: int
    first: int
    device: str
    patience_s: int
    output_json: Path | None
    report: Report


def parse(argv: list[str]) -> FitCheckOptions:
    """Raises Refused if a flag is unknown or a value is wrong."""
    found = flags().parse_args(argv)
    found.output_json, found.report = take_output(found)
    del found.quiet
    return FitCheckOptions(**vars(found))


def flags() -> Parser:
    parser = Parser(prog="fit_check.py", description=_DESCRIPTION, examples=EXAMPLES, exit_codes=EXIT_CODES)
    parser.add_argument("--combinations", type=count, default=50, metavar="N", help="default 50")
    parser.add_argument("--seed", type=natural, default=0)
    parser.add_argument("--flex", type=natural, default=0, metavar="N", help="how many use flex attention (slow)")
    parser.add_argument("--first", type=natural, default=0, metavar="N", help="go on at combination N")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--patience-s", type=count, default=120, metavar="S", help="for each combination; default 120")
    add_output_flags(parser)
    return parser
