"""The gates of a long-context validation, recomputed from its figures; the file's own "passed" is not trusted."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmval_tui.actions.api import Judged
from llmval_tui.actions.command.argv import value_of, values_of
from llmval_tui.actions.command.runner_catalog import LONG_CONTEXT_SCHEMA
from llmval_tui.actions.command.several_nodes import ranks_asked, tensor_parallel_asked
from llmval_tui.actions.gates.artifacts import read_valid, unreadable
from llmval_tui.actions.section_runs import command_of
from llmval_tui.foundation.text import GIB
from llmval_tui.runs.records import SEVERITY, Artifact, Gate, Outcome
from llmval_tui.runs.store import Run

MEMORY_PERCENT = 2.0  # largest difference between the allocator's peak and the prediction
# Random weights give near ties, so only distances are judged; with a checkpoint also the chosen token. FP8 weights and
# cache of the 8B shape measured a relative error of 0.22 and 0.025 nats on an H200; wrong scales give 1 and more.
RELATIVE_ERROR = 0.3
KL_NATS = 0.1
TOP1 = 0.9
_FP8 = "float8_e4m3fn"
_DTYPES = {"fp8": _FP8, "bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


@dataclass(frozen=True, slots=True)
class LongContextResult:
    """A result file, valid by its schema."""

    value: dict[str, Any]

    @property
    def lengths(self) -> list[dict[str, Any]]:
        return list(self.value["lengths"])

    @property
    def replicas(self) -> list["LongContextResult"]:
        """The result of each replica, which runs every length; without any the whole result is that of the only one."""
        found = self.value.get("replicas")
        return [LongContextResult({**self.value, "replicas": None, **one}) for one in found] if found else [self]

    @property
    def name(self) -> str:
        """`replica 1 on n2`."""
        return f"replica {self.value['replica']} on {self.value['host']}"

    @property
    def identity(self) -> dict[str, Any]:
        return dict(self.value["identity"])

    @property
    def on_gpu(self) -> bool:
        return bool(self.identity["device"] == "cuda")

    @property
    def uses_fp8(self) -> bool:
        """Whether anything ran in FP8, so a comparison with a higher precision is required."""
        return _FP8 in (self.identity["matrix_dtype"], self.identity["kv_dtype"])


def read_long_context(path: Path) -> LongContextResult | None:
    """The result in `path`; None if it is missing or not valid by its schema."""
    value = read_valid(path, LONG_CONTEXT_SCHEMA)
    return LongContextResult(value) if value is not None else None


def judge_long_context(run: Run, artifact: Artifact) -> Judged:
    """Gates, metrics and a sentence for one long-context result."""
    result = read_long_context(run.workspace / artifact.path)
    if result is None:
        gate = unreadable(artifact, "result", "a long-context result", "not a result of long_context_validation.py")
        return [gate], {}, "nothing to judge"
    gates = [
        _runner_checks(result),
        _as_asked(run, artifact, result),
        _precision(result),
        _asked_lengths(run, artifact, result),
    ]
    if len(result.replicas) > 1:
        gates.append(_all_together(result))
    return gates + _of_each_length(result), metrics_of(result), _sentence(result)


def _gate(name: str, good: bool, otherwise: Outcome, measured: str, bound: str, reason: str = "") -> Gate:
    return Gate(name, Outcome.PASS if good else otherwise, measured, bound, "" if good else reason)


def _runner_checks(result: LongContextResult) -> Gate:
    """The problems that the runner reports. Their absence alone proves nothing."""
    reasons = [str(reason) for reason in result.value["reasons"]] + (
        ["the result is partial"] if result.value["partial"] else []
    )
    measured = "; ".join(reasons)[:300] or "no problem"
    return _gate("runner's own checks", not reasons, Outcome.FAIL, measured, "the runner reports no problem")


def _as_asked(run: Run, artifact: Artifact, result: LongContextResult) -> Gate:
    """The run against its command: a runner that silently falls back fails here."""
    words, setup = tuple(command_of(run, artifact).argv), result.value["setup"]
    # Results of older versions, without FP8 prompts, have no `prefill_attention`.
    identity = {"prefill_attention": None, "batch": setup["batch"], "decode_tokens": setup["decode_tokens"]}
    identity |= result.identity
    mode, kv, checkpoint = (value_of(words, name) for name in ("--fp8-mode", "--kv-dtype", "--checkpoint"))
    stated = {
        "tensor_parallel": tensor_parallel_asked(words, result.identity),
        "model": value_of(words, "--model"),
        "device": value_of(words, "--device"),
        "attention_backend": value_of(words, "--attention-backend"),
        "kv_dtype": _DTYPES.get(kv or "", kv),
        "matrix_dtype": _FP8 if mode in ("native", "transformer-engine") else None,
        "weights": None if checkpoint is None else str(Path(checkpoint)),
        "batch": value_of(words, "--batch-size"),
        "decode_tokens": value_of(words, "--decode-tokens"),
        "prefill_attention": value_of(words, "--prefill-attention"),
    }
    asked = {name: value for name, value in stated.items() if value not in (None, "auto", "gpu")}
    other = [
        f"{name} {identity[name]} instead of {value}" for name, value in asked.items() if str(identity[name]) != value
    ]
    ran_ranks = identity["tensor_parallel"] * identity.get("data_parallel", 1)
    if (ranks := ranks_asked(words)) is not None and ranks.isdecimal() and int(ranks) != ran_ranks:
        other.append(f"{ran_ranks} ranks in all instead of {ranks}")
    if mode == "none" and identity["matrix_dtype"] == _FP8:
        other.append(f"matrix_dtype {_FP8} although --fp8-mode is none")
    ran = ", ".join(f"{name} {identity[name]}" for name in asked) or "the command sets none of these flags"
    return _gate("ran as asked", not other, Outcome.FAIL, "; ".join(other) or ran, "it ran as the command asks")


def _precision(result: LongContextResult) -> Gate:
    """The data types of the tensors against the ones that the setup chose."""
    setup, identity = result.value["setup"], result.identity
    wanted = {"matrix_dtype": setup["weight_dtype"], "kv_dtype": setup["kv_dtype"]}
    other = [
        f"{name} {identity[name]} instead of {_DTYPES.get(value, value)}"
        for name, value in wanted.items()
        if identity[name] != _DTYPES.get(value, value)
    ]
    ran = ", ".join(f"{name} {identity[name]}" for name in wanted)
    return _gate(
        "precision", not other, Outcome.FAIL, "; ".join(other) or ran, "the tensors have the types of the setup"
    )


def _asked_lengths(run: Run, artifact: Artifact, result: LongContextResult) -> Gate:
    words = tuple(command_of(run, artifact).argv)
    divisor = int(value_of(words, "--length-divisor") or 1)
    asked = [int(word) // divisor for word in values_of(words, "--sequence-lengths") if word.isdecimal()]
    passed = passed_lengths(result)
    wanted = asked or [entry["sequence_length"] for entry in result.lengths]
    missing = [length for length in wanted if length not in passed]
    proved = (result.value["find_max"] or {}).get("proved")
    return _gate(
        "lengths",
        not missing and bool(passed or proved),
        Outcome.FAIL,
        f"{len(passed)} passed" + (f", not {', '.join(f'{length:,}' for length in missing)}" if missing else ""),
        f"all of {', '.join(f'{length:,}' for length in wanted) or 'at least one'} pass",
    )


def passed_lengths(result: LongContextResult) -> list[int]:
    """The lengths that ran to the end without running out of memory, on each replica."""
    passed = [{e["sequence_length"] for e in part.lengths if e["status"] == "passed"} for part in result.replicas]
    return [length for entry in result.lengths if (length := entry["sequence_length"]) in set.intersection(*passed)]


def _of_each_length(result: LongContextResult) -> list[Gate]:
    """The gates of every length; of several replicas those of the worst one, which is named."""
    found: dict[str, list[tuple[Gate, str]]] = {}
    for part in result.replicas:
        for entry in part.lengths:
            for gate in _length_gates(part, entry):
                found.setdefault(gate.name, []).append((gate, part.name if part is not result else ""))
    gates = []
    for same in found.values():
        gate, name = min(same, key=lambda pair: SEVERITY.index(pair[0].outcome))  # the first of the worst
        if name and gate.outcome is Outcome.PASS:
            name = f"on each of {len(same)} replicas; {name}"
        gates.append(replace(gate, measured=f"{name}: {gate.measured}") if name else gate)
    return gates


def _all_together(result: LongContextResult) -> Gate:
    """Every replica that was started has its own lengths, and the throughput of all is their sum."""
    parts, wrong = result.replicas, []
    numbers, wanted = [part.value["replica"] for part in parts], result.identity.get("data_parallel", 1)
    if numbers != list(range(wanted)):
        wrong.append(f"the results of {len(numbers)} of {wanted} replicas")
    for entry in result.lengths:
        length = entry["sequence_length"]
        same = [one for part in parts for one in part.lengths if one["sequence_length"] == length]
        if len(same) != len(parts):
            wrong.append(f"{length:,} tokens: {len(same)} of {len(parts)} replicas tell")
        elif entry["status"] == "passed":
            for phase in ("prefill", "decode"):
                total = sum(one[phase]["tokens_per_s"] for one in same if one[phase])
                if not math.isclose(total, entry[phase]["tokens_per_s"], rel_tol=1e-6):
                    wrong.append(f"{length:,} tokens: {phase} {entry[phase]['tokens_per_s']:.1f}, replicas {total:.1f}")
    measured = "; ".join(wrong)[:300] or f"{len(parts)} replicas, each with every length"
    return _gate("replicas", not wrong, Outcome.INVALID, measured, "each replica ran every length, and sums are right")


def _length_gates(result: LongContextResult, entry: dict[str, Any]) -> list[Gate]:
    at = f"{entry['sequence_length']:,}"
    if entry["status"] != "passed":
        first = (entry["failure"] or [{}])[0]
        return [Gate(f"{at}: memory", Outcome.FAIL, entry["status"], "passed", str(first.get("message", ""))[:200])]
    found = [
        _weights_and_cache(at, result, entry),
        _peak(at, result, entry),
        _times(at, result, entry),
        *_fidelity(at, result, entry),
    ]
    return found + ([_needle(at, entry["needle"])] if entry["needle"] is not None else [])


def _weights_and_cache(at: str, result: LongContextResult, entry: dict[str, Any]) -> Gate:
    """The size of weights and cache is predicted to the byte: another size means another model or another type.

    Every rank must report, because a missing rank may be the one with more memory.
    """
    predicted = {name: entry["prediction"][name] for name in ("weights_bytes", "kv_bytes")}
    other = [
        f"rank {rank['rank']}: {name} {rank[name]:,} instead of {value:,}"
        for rank in entry["memory"]
        for name, value in predicted.items()
        if rank[name] != value
    ]
    reported, ranks = sorted(rank["rank"] for rank in entry["memory"]), result.identity["tensor_parallel"]
    if reported != list(range(ranks)):
        other.append(f"reported by {', '.join(f'rank {rank}' for rank in reported) or 'no rank'} of {ranks}")
    sizes = f"weights {predicted['weights_bytes']:,}, KV cache {predicted['kv_bytes']:,} bytes on each of "
    measured = "; ".join(other)[:300] or f"{sizes}{len(entry['memory'])}"
    return _gate(f"{at}: weights and cache", not other, Outcome.INVALID, measured, "as predicted, to the byte")


def _peak(at: str, result: LongContextResult, entry: dict[str, Any]) -> Gate:
    name, bound = f"{at}: peak memory", f"within {MEMORY_PERCENT:g} % of the prediction"
    total = entry["prediction"]["total_bytes"]
    peaks = [rank["allocated_peak_bytes"] for rank in entry["memory"]]
    if not peaks or None in peaks:
        reason = str(entry["memory"][0]["missing"]) if entry["memory"] else "no rank reported its memory"
        return _gate(
            name, not result.on_gpu, Outcome.INCONCLUSIVE, "not available", bound if result.on_gpu else reason, reason
        )
    worst = max((100 * (peak - total) / total for peak in peaks), key=abs)
    return _gate(
        name,
        abs(worst) <= MEMORY_PERCENT,
        Outcome.INCONCLUSIVE,
        f"{max(peaks) / GIB:.2f} GiB, {worst:+.2f} % of {total / GIB:.2f}",
        bound,
        "the length passed, but the prediction does not explain its memory, so it cannot predict other lengths",
    )


def _times(at: str, result: LongContextResult, entry: dict[str, Any]) -> Gate:
    """Rates agree with times, and no GPU is faster than its datasheet."""
    prefill, decode, setup = entry["prefill"], entry["decode"], result.value["setup"]
    wrong = []
    rate = setup["batch"] * entry["sequence_length"] / prefill["seconds"]
    if not math.isclose(rate, prefill["tokens_per_s"], rel_tol=1e-6):
        wrong.append(f"{prefill['tokens_per_s']:.1f} tokens/s do not agree with {prefill['seconds']:.4f} s")
    if not math.isclose(1000 * setup["batch"] / decode["step_ms"], decode["tokens_per_s"], rel_tol=1e-6):
        wrong.append(f"{decode['tokens_per_s']:.1f} tokens/s do not agree with {decode['step_ms']:.3f} ms a step")
    if decode["steps"] != setup["decode_tokens"]:
        wrong.append(f"{decode['steps']} decode steps instead of {setup['decode_tokens']}")
    if prefill["ttft_ms"] < 0.9 * 1000 * prefill["seconds"] / setup["batch"]:
        wrong.append("the first token came before its prompt was processed")
    shares = [share["percent"] for share in (*prefill["mfu"], *decode["mbu"]) if "datasheet" in share["peak_source"]]
    wrong += [f"{share:.0f} % of the peak in the datasheet" for share in shares if share > 100]
    measured = "; ".join(wrong) or f"prefill {prefill['seconds']:.3f} s, decode step {decode['step_ms']:.2f} ms"
    return _gate(
        f"{at}: times", not wrong, Outcome.INVALID, measured, "rates agree with times, within the hardware's peak"
    )


def _fidelity(at: str, result: LongContextResult, entry: dict[str, Any]) -> list[Gate]:
    found, name = entry["fidelity"], f"{at}: fidelity"
    if found["status"] == "not_compared" and not result.uses_fp8:
        return [Gate(name, Outcome.PASS, "not compared", "only FP8 needs a comparison", str(found["reason"]))]
    if found["status"] != "compared":
        reason = str(found["reason"])
        return [Gate(name, Outcome.INCONCLUSIVE, found["status"], "compared with the reference", reason)]
    return [_distance(f"{name} of {kind}", found[kind], result) for kind in ("prompt", "decode")]


def _distance(name: str, found: dict[str, Any], result: LongContextResult) -> Gate:
    bound = f"0 < relative error ≤ {RELATIVE_ERROR:g}, KL ≤ {KL_NATS:g} nats"
    trained = result.identity["weights"] != "random"
    if trained:
        bound += f", top-1 ≥ {TOP1:.0%}"
    error, kl, top1 = found["relative_error"], found["kl_mean_nats"], found["top1_agreement"]
    if not found["positions"] or not found["finite"] or error is None or kl is None or top1 is None:
        return Gate(name, Outcome.FAIL, "not finite", bound, "a logit is not a finite number, or none was sampled")
    measured = f"relative error {error:.4f}, KL {kl:.5f} nats, top-1 {top1:.1%} over {found['positions']} positions"
    if error == 0:
        reason = "the logits are the reference's, bit for bit, so the reduced precision did not run"
        return Gate(name, Outcome.FAIL, measured, bound, reason)
    good = error <= RELATIVE_ERROR and kl <= KL_NATS and (top1 >= TOP1 or not trained)
    return _gate(name, good, Outcome.FAIL, measured, bound, "too far from the reference to use for serving")


def _needle(at: str, found: dict[str, Any]) -> Gate:
    name, bound = f"{at}: needle", "found at every depth"
    if not found["depths"]:
        return Gate(name, Outcome.INCONCLUSIVE, "not run", bound, str(found["missing"]))
    lost = [f"{depth['depth']:.0%}" for depth in found["depths"] if not depth["found"]]
    measured = f"lost at depth {', '.join(lost)}" if lost else f"found at {len(found['depths'])} depths"
    return _gate(name, not lost, Outcome.FAIL, measured, bound)


def metrics_of(result: LongContextResult) -> dict[str, float | None]:
    """The figures of each length that passed, by name with unit and tokens."""
    values: dict[str, float | None] = {}
    readers: dict[str, Callable[[dict[str, Any]], Any]] = {
        "prefill_tokens_per_s": lambda entry: entry["prefill"]["tokens_per_s"],
        "ttft_ms": lambda entry: entry["prefill"]["ttft_ms"],
        "decode_step_ms": lambda entry: entry["decode"]["step_ms"],
        "peak_memory_bytes": peak_bytes,
    }
    for entry in result.lengths:
        if entry["status"] == "passed":
            values |= {f"{name}_{entry['sequence_length']}": read(entry) for name, read in readers.items()}
    return values


def peak_bytes(entry: dict[str, Any]) -> int | None:
    """The allocator's peak on the GPU with the highest one; None if a rank has no peak."""
    peaks = [rank["allocated_peak_bytes"] for rank in entry["memory"]]
    return max(peaks) if peaks and None not in peaks else None


def _sentence(result: LongContextResult) -> str:
    parts = []
    for entry in result.lengths:
        at = f"{entry['sequence_length']:,} tokens"
        if entry["status"] != "passed":
            parts.append(f"{at}: {entry['status'].replace('_', ' ')}")
            continue
        peak = peak_bytes(entry)
        memory = "" if peak is None else f", peak {peak / GIB:.1f} GiB a GPU"
        parts.append(
            f"{at}: prefill {entry['prefill']['seconds']:.3f} s, step {entry['decode']['step_ms']:.2f} ms{memory}"
        )
    return "; ".join(parts) or "no length was run"
