"""The GPUs of a judged run in one line beside its verdict: how alike they were, and whether one fell behind."""

from llmval_tui.terminal.format import NOT_AVAILABLE
from llmval_tui.tui.data.gpu_review import GpuReview, ReviewedGpu
from llmval_tui.tui.drawing.rows import Row
from llmval_tui.tui.widgets.bars import clock
from llmval_tui.tui.widgets.gpu_charts import ODD
from llmval_tui.tui.widgets.text_rows import labelled

MOST_NAMED = 2  # odd GPUs in the line; the others are counted
_REASONS = (("thermal", "thermal"), ("power_brake", "power brake"), ("power_cap", "power cap"))


def gpu_line(review: GpuReview) -> tuple[str, str]:
    """The words, and their role."""
    if not review.gpus:
        return f"{NOT_AVAILABLE}: {review.problem}", "warn"
    odd = {gpu.index: words for gpu in review.gpus if (words := _odd_words(gpu, review))}
    if odd:
        count = len(review.gpus)
        text = "; ".join(f"GPU {index} {words}" for index, words in list(odd.items())[:MOST_NAMED])
        more = f"; {len(odd) - MOST_NAMED} more of {count}" if len(odd) > MOST_NAMED else f" (of {count})"
        slowed = any(gpu.slowed for gpu in review.gpus)
        serious = any(gpu.xid is not None for gpu in review.gpus)
        return text + more + ("" if slowed else f", {_slowing(review)}"), "bad" if serious else "warn"
    far = [abs(value) for gpu in review.gpus if (value := review.from_median(gpu)) is not None]
    if len(review.gpus) == 1:
        power = review.gpus[0].power_w
        alike = f"GPU {review.gpus[0].index}, {NOT_AVAILABLE if power is None else f'{power:,.0f}'} W"
    elif len(far) == len(review.gpus):
        alike = f"{len(far)} alike within {max(far):.1f} % of power"
    else:
        alike = f"{len(review.gpus)}, power {NOT_AVAILABLE} on {len(review.gpus) - len(far)}"
    return f"{alike}, {_slowing(review)}, no XID", "text"


def gpu_line_rows(review: GpuReview | None, width: int) -> list[Row]:
    """The line with its label; none if the run used no GPU."""
    return [] if review is None else labelled("GPUs", *gpu_line(review), width)


def reason_word(reason: str) -> str:
    """A reason for lower clocks as people say it: `thermal`, `power brake`."""
    return next((word for part, word in _REASONS if part in reason), reason)


def _odd_words(gpu: ReviewedGpu, review: GpuReview) -> str:
    parts = []
    if gpu.xid is not None:
        parts.append(f"XID {gpu.xid}")
    if gpu.slowed:
        since = ""
        if gpu.slowed_from_s is not None and review.windows <= 1:
            since = f" from {clock(gpu.slowed_from_s)} of the {'measurement' if review.windows else 'recording'}"
        parts.append(f"throttled ({', '.join(dict.fromkeys(map(reason_word, gpu.slowed)))}){since}")
    far = review.from_median(gpu)
    if far is not None and abs(far) >= ODD:
        parts.append(f"power {abs(far):.0f} % {'under' if far < 0 else 'over'} the median")
    return ", ".join(parts)


def _slowing(review: GpuReview) -> str:
    if not all(gpu.slowing_known for gpu in review.gpus):
        return f"throttling {NOT_AVAILABLE}"
    capped = [str(gpu.index) for gpu in review.gpus if gpu.capped]
    return f"no throttling but the power cap of GPU {', '.join(capped)}" if capped else "no throttling"
