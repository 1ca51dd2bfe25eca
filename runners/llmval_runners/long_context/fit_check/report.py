"""Predictions beside outcomes: the printed table, the record, and the counts of right predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from llmval_runners.engine.parallel import Parallel
from llmval_runners.long_context.fit_check.cases import CLOSE, FITS, Case, least_bytes
from llmval_runners.long_context.fit_check.options import FitCheckOptions
from llmval_runners.long_context.fit_check.trial import Outcome
from llmval_runners.long_context.record import residual, setup_json, shape_json
from llmval_runners.long_context.setup import GIB
from llmval_runners.process.errors import FAILED_EXIT, GOOD_EXIT, UNDECIDED_EXIT
from llmval_runners.process.screen import Screen, plural
from llmval_runners.process.verdict import Verdict, ended_early

# Two lines of at most 80 columns: what was run, and what came of it.
_WHAT = (
    ("#", 3), ("shape", 27), ("layers", 6), ("GPUs", 4), ("weights", 8), ("KV", 8), ("attention", 9), ("s", 5),
)  # fmt: skip
_CAME = (
    ("tokens", 12), ("card", 7), ("needed", 7), ("peak", 7), ("seen", 7), ("predicted", 16), ("seen", 12), ("", 5),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One combination that was run. `agreed`: all ranks had the same outcome. `peak_bytes`: the largest rank's."""

    case: Case
    observed: str
    agreed: bool
    outcome: Outcome
    peak_bytes: int
    seconds: float

    @property
    def right(self) -> bool | None:
        """None if it was too close to say, which is not a prediction."""
        predicted = self.case.predicted
        return None if predicted == CLOSE else predicted == self.observed and self.agreed

    def as_json(self) -> dict[str, Any]:
        case, parts = self.case, self.case.parts
        return {
            "index": case.index,
            "shape": shape_json(case.setup),
            "setup": setup_json(case.setup),
            "sequence_length": case.length,
            "free_bytes": case.free_bytes,
            "prediction": parts.as_json() | {"least_bytes": least_bytes(case.setup, parts)},
            "predicted": case.predicted,
            "observed": self.observed,
            "right": self.right,
            "ranks_agreed": self.agreed,
            "out_of_memory": self.outcome.out_of_memory,
            "message": self.outcome.message,
            "peak_bytes": self.peak_bytes,
            # If it did not run to its end, the peak covers only the work before the failure.
            **(residual(self.peak_bytes, parts.peak_bytes) if self.observed == FITS else residual(None, 0)),
            "seconds": self.seconds,
        }


def table(rows: list[Row], *, head: bool) -> str:
    """Two lines for each row. Column widths are fixed, so rows can be printed one by one."""
    lines = [_line([name for name, _ in columns], columns) for columns in (_WHAT, _CAME) if head]
    return "\n".join([*lines, *(line for row in rows for line in _lines(row))])


def _line(cells: Sequence[str], columns: Sequence[tuple[str, int]]) -> str:
    return " ".join(cell.rjust(width) for cell, (_, width) in zip(cells, columns, strict=True)).rstrip()


def _lines(row: Row) -> list[str]:
    case, setup, parts = row.case, row.case.setup, row.case.parts
    tokens = f"{case.length}" + (f"×{setup.batch}" if setup.batch > 1 else "")
    weights = "fp8 te" if setup.transformer_engine else setup.weight_dtype
    attention = setup.backend + (" fp8" if setup.prefill_attention == "fp8" else "")
    mark = {True: "right", False: "WRONG", None: "–"}[row.right]
    what = [
        str(case.index), setup.shape.name, str(setup.shape.layers), str(setup.tensor_parallel), weights,
        setup.kv_dtype, attention, f"{row.seconds:.1f}",
    ]  # fmt: skip
    came = [
        tokens, _size(case.free_bytes), _size(parts.needed_bytes), _size(parts.peak_bytes), _size(row.peak_bytes),
        case.predicted, row.observed, mark,
    ]  # fmt: skip
    return [_line(what, _WHAT), _line(came, _CAME)]


def counts(rows: list[Row]) -> dict[str, int]:
    """Numbers of combinations: predicted, right, wrong in either direction, and too close to say."""
    decided = [row for row in rows if row.right is not None]
    wrong = [row for row in decided if not row.right]
    return {
        "tried": len(rows),
        "predicted": len(decided),
        "right": len(decided) - len(wrong),
        "wrong_said_fits": sum(row.case.predicted == FITS for row in wrong),
        "wrong_said_does_not": sum(row.case.predicted != FITS for row in wrong),
        "too_close_to_say": len(rows) - len(decided),
    }


def verdict_of(rows: list[Row], early: str | None) -> Verdict:
    """`early`: why the check ended before its last combination."""
    found = counts(rows)
    if early is not None:
        return ended_early(early)
    if found["right"] < found["predicted"]:
        return Verdict("failed", summary(rows), FAILED_EXIT)
    if not found["predicted"]:
        return Verdict("inconclusive", "every combination was too close to say", UNDECIDED_EXIT)
    return Verdict("ok", summary(rows), GOOD_EXIT)


def last_screen(record: dict[str, Any], where: str) -> str:
    """The screen, at most 80 columns wide. `where` the record lies."""
    verdict = record["verdict"]
    screen = Screen(f"{verdict['word']}: {verdict['reason']}")
    screen.row("combinations", f"{record['tried']} tried", f"{record['too_close_to_say']} too close to say")
    screen.row("predictions", f"{record['right']} of {record['predicted']} right")
    screen.row("said to fit", f"{record['wrong_said_fits']} did not")
    screen.row("said not to fit", f"{record['wrong_said_does_not']} did")
    for row in record["rows"]:
        if row["right"] is False:
            what = f"combination {row['index']}, {row['sequence_length']:,} tokens"
            screen.row("wrong", what, f"predicted {row['predicted']}, seen {row['observed']}")
    screen.row("took", f"{record['seconds']:,.0f} s")
    screen.row("ran", f"{plural(record['ranks'], 'rank')} on {record['device']}")
    screen.row("record", where)
    return screen.text()


def summary(rows: list[Row]) -> str:
    found = counts(rows)
    fitting = [row for row in rows if row.observed == FITS]
    errors = [abs(row.peak_bytes / row.case.parts.peak_bytes - 1) for row in fitting if row.case.setup.on_gpu]
    worst = f"; peaks within {100 * max(errors):.2f} % of the prediction" if errors else ""
    return (
        f"{found['right']} of {found['predicted']} predictions right, {len(fitting)} of {found['tried']} ran to their "
        f"end (said to fit and did not: {found['wrong_said_fits']}, said not to fit and did: "
        f"{found['wrong_said_does_not']}, too close to say: {found['too_close_to_say']}){worst}"
    )


def record(
    rows: list[Row], parallel: Parallel, options: FitCheckOptions, seconds: float, *, early: str | None
) -> dict[str, Any]:
    """The result JSON. `early`: why the check ended before its last combination."""
    device = parallel.device
    return {
        "schema": 1,
        "kind": "fit_check",
        "partial": early is not None,
        "verdict": verdict_of(rows, early).as_json(),
        "asked": {"combinations": options.combinations, "seed": options.seed, "flex": options.flex},
        "ranks": parallel.size,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU (tensors counted, not taken)",
        "torch_version": torch.__version__,
        "seconds": seconds,
        **counts(rows),
        "rows": [row.as_json() for row in rows],
    }


def _size(count: int) -> str:
    """Bytes in GiB, or in MiB below a tenth of a GiB."""
    return f"{count / GIB:.2f}G" if count >= GIB / 10 else f"{count / 1024**2:.1f}M"
