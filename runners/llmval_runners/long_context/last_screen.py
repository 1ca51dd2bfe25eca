"""The last screen of a long-context run, from its record."""

from collections.abc import Mapping
from typing import Any

from llmval_runners.measure.limits import Limit, clauses, limit_of, peak_of
from llmval_runners.process.errors import FAILED_EXIT, GOOD_EXIT
from llmval_runners.process.screen import Screen, figure, gib, plural
from llmval_runners.process.verdict import Verdict, ended_early

MOST_LINES = 16  # of replicas
_HOST = 12  # columns of a node's name, beside a number of two digits and a verdict


def verdict_of(record: Mapping[str, Any], *, early: bool = False) -> Verdict:
    """`early`: a signal or an error ended the run. Otherwise any reason is a failure."""
    reasons = "; ".join(record["reasons"])
    if early:
        return ended_early(reasons)
    if record["asked"]["predict_only"]:
        wrong = [entry for entry in record["lengths"] if not entry["prediction"]["fits"]]
        word, code = ("failed", FAILED_EXIT) if wrong else ("ok", GOOD_EXIT)
        what = f"{plural(len(wrong), 'length')} predicted not to fit" if wrong else "every length is predicted to fit"
        return Verdict(word, f"{what}; nothing was run", code)
    if reasons:
        return Verdict("failed", reasons, FAILED_EXIT)
    return Verdict("ok", "every length ran, and its figures are below", GOOD_EXIT)


def last_screen(record: Mapping[str, Any], where: str) -> str:
    """The screen, at most 80 columns wide. `where` the record lies."""
    verdict, lengths = record["verdict"], record["lengths"]
    screen = Screen(f"{verdict['word']}: {verdict['reason']}")
    ran = [entry for entry in lengths if entry["prefill"] or entry["decode"]]
    if ran:
        names = ("prefill", "decode")
        device = record["identity"]["device_name"]
        limits = [(name, [_limit(name, entry[name], device) for entry in ran if entry[name]]) for name in names]
        screen.row("limited by", *clauses(limits))
    screen.table("memory a GPU", ("state", "predicted", "peak", "error"), [_memory(entry) for entry in lengths])
    screen.table("prefill", ("TTFT, ms", "in tokens/s", "MFU", "tokens/J"), [_prefill(entry) for entry in ran])
    screen.table("decode", ("TPOT p50", "p90", "p99, ms", "out tok/s", "MBU"), [_decode(entry) for entry in ran])
    _replicas(screen, record.get("replicas") or [])
    compared = [entry for entry in lengths if entry["fidelity"]["status"] == "compared"]
    columns = ("rel. error", "KL, nats", "same token")
    screen.table("logits, prompt", columns, [_fidelity(entry, "prompt") for entry in compared])
    screen.table("logits, decode", columns, [_fidelity(entry, "decode") for entry in compared])
    if ran and not compared:
        screen.row("logits", f"not compared: {ran[0]['fidelity']['reason']}")
    if record["find_max"]:
        found = record["find_max"]
        screen.row("longest that fits", f"{found['length']:,} tokens", "proved" if found["proved"] else "by prediction")
    screen.row("power", *_power(ran))
    memory = record["memory"]
    if memory:
        screen.row("memory", f"{gib(memory['free_bytes'])} free on each before the run")
    identity, setup = record["identity"], record["setup"]
    copies = f"{count} replicas of " if (count := identity.get("data_parallel", 1)) > 1 else ""
    screen.row(
        "ran",
        f"{identity['model']}, weights {setup['weight_dtype']}, KV {setup['kv_dtype']}, batch {setup['batch']}",
        f"attention {identity['attention_backend'] or 'not run'}",
        f"{copies}{plural(identity['tensor_parallel'], 'rank')} on {identity['device_name']}",
    )
    screen.row("record", where)
    return screen.text()


def _replicas(screen: Screen, replicas: list[Mapping[str, Any]]) -> None:
    """A line for each replica with its longest length that passed, those that are not ok first."""
    if not replicas:
        return
    screen.row("", "times are those of the slowest replica, and throughput is that of all together")
    columns = ("in tokens/s", "TTFT, ms", "TPOT p50", "out tok/s")
    ordered = sorted(replicas, key=lambda one: (one["verdict"]["word"] == "ok", one["replica"]))
    rows = []
    for one in ordered[:MOST_LINES]:
        last: Mapping[str, Any] = next((entry for entry in reversed(one["lengths"]) if entry["status"] == "passed"), {})
        prefill, decode = last.get("prefill") or {}, last.get("decode") or {}
        figures = (
            (prefill.get("tokens_per_s"), 0), (prefill.get("ttft_ms"), 2), (decode.get("step_ms"), 3),
            (decode.get("tokens_per_s"), 0),
        )  # fmt: skip
        host = (one["host"] or "n/a")[:_HOST]
        rows.append((f"{one['replica']} {host}: {one['verdict']['word']}", [figure(*pair) for pair in figures]))
    longest = next((_name(e) for e in reversed(replicas[0]["lengths"]) if e["status"] == "passed"), "no length")
    screen.table(f"replicas, {longest}", columns, rows)
    if len(replicas) > MOST_LINES:
        screen.row("", f"and {len(replicas) - MOST_LINES} more in the record")


def _limit(name: str, phase: Mapping[str, Any], device: str) -> Limit:
    """The limit of a phase (`measure.limits`): compute for the prefill, memory bandwidth for a decode step."""
    metric = "MFU" if name == "prefill" else "MBU"
    return limit_of([peak_of(metric, phase[metric.lower()])], unknown=f"no peak rate is known for {device}")


def _name(entry: Mapping[str, Any]) -> str:
    return f"{entry['sequence_length']:,} tokens"


def _memory(entry: Mapping[str, Any]) -> tuple[str, list[str]]:
    peaks = [rank["allocated_peak_bytes"] for rank in entry["memory"] if rank["allocated_peak_bytes"] is not None]
    errors = [rank["residual_percent"] for rank in entry["memory"] if rank["residual_percent"] is not None]
    state = {"out_of_memory": "no memory", "not_run": "not run"}.get(entry["status"], entry["status"])
    error = f"{max(errors, key=abs):+.2f} %" if errors else "n/a"
    return _name(entry), [state, gib(entry["prediction"]["total_bytes"]), gib(max(peaks, default=None)), error]


def _prefill(entry: Mapping[str, Any]) -> tuple[str, list[str]]:
    found = entry["prefill"] or {}
    mfu = found.get("mfu") or []
    return _name(entry), [
        figure(found.get("ttft_ms")),
        figure(found.get("tokens_per_s"), 0),
        f"{mfu[-1]['percent']:.1f} %" if mfu else "n/a",
        figure((found.get("energy") or {}).get("tokens_per_joule")),
    ]


def _decode(entry: Mapping[str, Any]) -> tuple[str, list[str]]:
    found = entry["decode"] or {}
    mbu = found.get("mbu") or []
    times = [figure(found.get(key), 3) for key in ("step_ms", "step_p90_ms", "step_p99_ms")]
    return _name(entry), [*times, figure(found.get("tokens_per_s"), 0), f"{mbu[-1]['percent']:.1f} %" if mbu else "n/a"]


def _fidelity(entry: Mapping[str, Any], kind: str) -> tuple[str, list[str]]:
    found = entry["fidelity"][kind] or {}
    top = found.get("top1_agreement")
    same = "n/a" if top is None else f"{100 * top:.1f} %"
    return _name(entry), [figure(found.get("relative_error"), 4), figure(found.get("kl_mean_nats"), 5), same]


def _power(ran: list[Mapping[str, Any]]) -> list[str]:
    """The mean power of the last length's phases, and where the shares' peaks come from."""
    if not ran:
        return []
    phases = [(name, ran[-1][name]["energy"]) for name in ("prefill", "decode") if ran[-1][name]]
    found = [f"{name} {energy['power_w']:,.0f} W" for name, energy in phases if energy["power_w"] is not None]
    missing = next((energy["missing"] for _, energy in phases if energy["missing"]), None)
    return found or [f"n/a ({missing})"]
