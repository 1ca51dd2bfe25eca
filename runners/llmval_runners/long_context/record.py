"""Parts of the result JSON (`docs/schemas/long_context.schema.json`), and the tables that the run prints."""

from dataclasses import asdict
from typing import Any

from llmval_runners.long_context import rates
from llmval_runners.long_context.predict.peak_memory import Parts, kv_bytes_per_token
from llmval_runners.long_context.setup import GIB, Setup

SCHEMA = 1


def shape_json(setup: Setup) -> dict[str, Any]:
    shape = setup.shape
    names = ("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab", "max_positions", "tied_embeddings")
    return {"name": shape.name, "parameters": shape.parameters, **{name: getattr(shape, name) for name in names}}


def setup_json(setup: Setup) -> dict[str, Any]:
    """The setup without the shape."""
    return {key: value for key, value in asdict(setup).items() if key != "shape"}


def prediction_json(parts: Parts, free_bytes: int) -> dict[str, Any]:
    """`free_bytes`: free memory of the fullest GPU before the run allocated anything."""
    return parts.as_json() | {"free_bytes": free_bytes, "fits": parts.needed_bytes <= free_bytes}


def residual(measured: int | None, predicted: int) -> dict[str, Any]:
    """Measured minus predicted, in bytes and in percent of the prediction."""
    if measured is None:
        return {"residual_bytes": None, "residual_percent": None}
    return {"residual_bytes": measured - predicted, "residual_percent": 100 * (measured - predicted) / predicted}


def rank_memory(rank: int, values: dict[str, int | None], predicted: Parts, missing: str | None) -> dict[str, Any]:
    """One rank's memory: bytes of its tensors, its peaks, and the error of the prediction."""
    return {
        "rank": rank,
        **values,
        **residual(values["allocated_peak_bytes"], predicted.total_bytes),
        "missing": missing,
    }


def prefill_json(setup: Setup, length: int, gpu: str | None, seconds: float, ttft_s: float) -> dict[str, Any]:
    flops = rates.prefill_flops(setup, length)
    return {
        "seconds": seconds,
        "tokens_per_s": setup.batch * length / seconds,
        "ttft_ms": 1000 * ttft_s,
        "model_flops": flops,
        "mfu": rates.compute_share(setup, gpu, flops, seconds),
    }


def decode_json(setup: Setup, length: int, gpu: str | None, times: dict[str, float]) -> dict[str, Any]:
    count = rates.decode_bytes(setup, length + setup.decode_tokens / 2)
    return {
        **times,
        "tokens_per_s": 1000 * setup.batch / times["step_ms"],
        "bytes_per_step": round(count),
        "mbu": rates.bandwidth_share(gpu, count, times["step_ms"] / 1000),
    }


def prediction_table(setup: Setup, found: list[tuple[int, Parts]], free_bytes: int) -> str:
    """A line for each planned length: the memory that it needs, and whether it fits."""
    kind = "GPU" if setup.on_gpu else "rank"
    head = (
        f"{setup.shape.name}, {setup.tensor_parallel} {kind}{'s' if setup.tensor_parallel > 1 else ''}, weights "
        f"{setup.weight_dtype}, KV cache {setup.kv_dtype} ({kv_bytes_per_token(setup):,} bytes a token on each), batch "
        f"{setup.batch}, chunks of {setup.chunk}; {_gib(free_bytes)} free on each"
    )
    rows: list[tuple[str, ...]] = [("tokens", "weights", "KV cache", "step", "rest", "peak", "needed", "fits")]
    for length, parts in found:
        sizes = (
            parts.weights_bytes,
            parts.kv_bytes,
            parts.activation_bytes,
            parts.workspace_bytes + parts.graph_bytes,
            parts.total_bytes,
            parts.needed_bytes,
        )
        rows.append((f"{length:,}", *map(_gib, sizes), "yes" if parts.needed_bytes <= free_bytes else "NO"))
    return f"{head}\n{_aligned(rows)}" if found else head


def _aligned(rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _gib(count: int) -> str:
    return f"{count / GIB:.2f} GiB" if count >= GIB / 10 else f"{count / 1024**2:.2f} MiB"
