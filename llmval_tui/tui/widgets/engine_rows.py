"""One line about the server that a run uses: what it publishes of its scheduler and its caches."""

from llmval_tui.foundation.text import clean_line
from llmval_tui.terminal.format import NOT_AVAILABLE, number, wrap
from llmval_tui.tui.data.run_follower import EngineState
from llmval_tui.tui.drawing.rows import Row, row


def engine_rows(state: EngineState, width: int, *, alive: bool) -> list[Row]:
    """The server's name, its queue and KV cache while the run is `alive`, and what it counted since the run began.

    Beside the verdict, the last queue would look like that of a server that still serves.
    """
    first, last = state.first, state.last
    if last is None or last.engine is None:
        return [row((f" {line}", "muted")) for line in wrap(clean_line(f"server: {state.problem}"), width - 2)]
    now = [
        f"running {number(last.running)}",
        f"waiting {number(last.waiting)}",
        f"KV cache {_percent(last.kv_cache_used_percent)}",
    ]
    counted = [
        f"preemptions {number(None if first is None else _grown(first.preemptions, last.preemptions))}",
        f"prefix hits {_percent(_hit_percent(state))}",
    ]
    name, parts = clean_line(last.engine), [*now, *counted] if alive else counted
    text = f"{name}{'' if alive else ', while the run lasted'}: {', '.join(parts)}"
    return [row((f" {line}", "text")) for line in wrap(text, width - 2)]


def _hit_percent(state: EngineState) -> float | None:
    if state.first is None or state.last is None:
        return None
    queries = _grown(state.first.prefix_cache_queries, state.last.prefix_cache_queries)
    hits = _grown(state.first.prefix_cache_hits, state.last.prefix_cache_hits)
    return 100 * hits / queries if queries and hits is not None else None


def _grown(first: float | None, last: float | None) -> float | None:
    """The growth of a counter; None if it is not known, or fell because the server was started again."""
    return last - first if first is not None and last is not None and last >= first else None


def _percent(value: float | None) -> str:
    return NOT_AVAILABLE if value is None else f"{number(value)} %"
