"""The last screen of a load test, from its record: the verdict, the figures, what ran, and where the record lies."""

from collections.abc import Mapping, Sequence
from typing import Any

from llmval_runners.load_test.metrics import MAX_TTFT_SLOPE
from llmval_runners.measure.limits import NOT_SEEN, UNKNOWN, Limit, Power, limit_of, peak_of
from llmval_runners.process.screen import Screen, figure, gib, plural, share

_COLUMNS = ("p50", "p90", "p99")
MOST_LINES = 16  # of replicas
_HOST = 12  # columns of a node's name, beside a number of two digits and a verdict
FULL = 95.0  # percent of the KV cache; a request needs several pages at once, so the last few stay free
# Title, and the place of the percentiles in ms: a stem of the flat keys, or an object of `llmval`.
_LATENCIES = (
    ("TTFT from schedule", None, "ttft_sched"),
    ("TTFT from dispatch", "ttft", None),
    ("TPOT", "tpot", None),
    ("ITL", "itl", None),
    ("E2E from schedule", None, "e2e_sched"),
    ("E2E from dispatch", "e2el", None),
)


def last_screen(record: Mapping[str, Any], where: str, no_meter: str = "") -> str:
    """The screen, at most 80 columns wide. `where`: the record lies. `no_meter`: why there is no energy."""
    ours = record["llmval"]
    verdict = ours["verdict"]
    screen = Screen(f"{verdict['word']}: {verdict['reason']}" if verdict["reason"] else verdict["word"])
    screen.row("limited by", *limits(record))
    if ours.get("search") is not None:
        _search(screen, ours["search"])
    of_server = ours["identity"].get("server") is not None
    screen.row("requests", _requests(record, ours))
    if of_server:
        _server_counts(screen, ours)
    rates = ours["rates"]
    names = ("offered", "achieved", "completed")
    screen.row("requests/s", *[f"{name} {figure(rates[f'{name}_qps'])}" for name in names])
    output, total = record["output_throughput"], record["total_token_throughput"]
    inputs = None if output is None or total is None else total - output
    screen.row("tokens/s", f"in {figure(inputs, 1)}", f"out {figure(output, 1)}")
    # A server sends chunks, and a chunk may hold several tokens.
    latencies = [
        ("inter-chunk" if of_server and title == "ITL" else title, _latency(record, ours, flat, own))
        for title, flat, own in _LATENCIES
    ]
    screen.table("latency, ms", _COLUMNS, latencies)
    if record["completed"] and record["failed"]:
        screen.row(
            "", f"of the {record['completed']:,} that completed; the other {record['failed']:,} are in no percentile"
        )
    _replicas(screen, ours.get("replicas") or [])
    screen.row("service level", *_service_level(ours))
    screen.row("queue", *_queue(record, ours))
    if not of_server:  # it reports neither its memory nor its GPUs
        screen.row("memory", *_memory(ours))
    screen.row("power", *_power(ours, no_meter))
    if not of_server:
        screen.row("MFU, MBU", *_utilisation(ours))
    screen.row("ran", *_ran(ours))
    screen.row("record", where)
    if advice := _next(ours):
        screen.row("next", *advice)
    return screen.text()


def limits(record: Mapping[str, Any]) -> list[str]:
    """What limited the requests, then what limited the engine's steps; each with its figures, or n/a with the reason.

    The requests: the engine or the server if the queue grew (`metrics.ttft_slope`), else nothing at this load. If the
    queue grew, why no request could start: the KV cache was full, or every place in the batch was taken, while others
    waited. The steps: the rules of `measure.limits` over the whole window, so pauses between requests lower its shares.
    """
    ours = record["llmval"]
    word, slope = ours["verdict"]["word"], ours["ttft_slope"]
    if ours.get("search") is not None:
        return [_search_limit(ours["search"]), *_steps(ours, "last trial's steps")]
    if word in ("invalid", "ended early"):
        return [f"n/a ({word}, so no capacity is shown)", *_steps(ours)]
    if slope is None:
        return ["n/a (too few requests for a trend of the queue)"]
    rates, of_server = ours["rates"], ours["identity"].get("server") is not None
    offered = figure(rates["offered_qps"])
    if slope <= MAX_TTFT_SLOPE:
        if record["failed"]:
            return [f"n/a ({plural(record['failed'], 'request')} failed)", *_steps(ours)]
        return [f"nothing seen: the queue did not grow at {offered} requests/s", *_steps(ours)]
    who = "server" if of_server else "engine"
    found = [f"the {who}: {offered} requests/s offered, {figure(rates['completed_qps'])} completed, the queue grew"]
    return [*found, *_no_place(ours), *_steps(ours)]


def _search_limit(search: Mapping[str, Any]) -> str:
    """What the lowest failed trial above the highest rate failed by: the service level, the queue, or both."""
    interval = search.get("interval_qps")
    if interval is None:
        return "n/a (the search has no interval)"
    failed = [trial for trial in search["trials"] if trial["verdict"] == "fails" and trial["target_qps"] >= interval[0]]
    if not failed:
        return "n/a (no trial failed above the interval's lower end)"
    lowest = min(failed, key=lambda trial: float(trial["target_qps"]))
    return f"at {lowest['target_qps']:,.4g} requests/s {lowest['reason']}"


def _next(ours: Mapping[str, Any]) -> list[str]:
    """What to run next. A search says it in its verdict; a failed or invalid window needs its cause removed first."""
    word = ours["verdict"]["word"]
    if ours.get("search") is not None or word not in ("ok", "overloaded", "inconclusive"):
        return []
    if word == "inconclusive":
        return ["a longer --duration or a higher --target-qps"]
    rate = "--find-max-qps with a --slo-… finds the highest rate"
    found = [rate] if word == "ok" else ["a lower --target-qps", rate]
    if ours["identity"].get("server") is None and step_limit(ours).name == NOT_SEEN:
        found.append("capture_fp8_flexattention_traces.sh shows what takes a step's time")
    return found


def _no_place(ours: Mapping[str, Any]) -> list[str]:
    """Why requests waited for a place in the batch, if that was seen."""
    queue, used = ours.get("queue") or {}, (ours.get("memory") or {}).get("kv_used_percent")
    if not queue.get("most_waiting"):
        return []
    if used is not None and used >= FULL:
        return [f"KV cache full ({used:.0f} %, at most {queue['most_waiting']:,} waiting)"]
    if (running := queue.get("most_running")) is not None and running >= ours["workload"]["max_batch"]:
        return [f"batch full ({running:,} of {ours['workload']['max_batch']:,} running; --max-batch)"]
    return []


def _steps(ours: Mapping[str, Any], what: str = "its steps") -> list[str]:
    if ours["identity"].get("server") is not None:
        return ["its GPUs: n/a (a server does not report them)"]
    return [f"{what}: {step_limit(ours)}"]


def step_limit(ours: Mapping[str, Any]) -> Limit:
    """The limit of the engine's steps over the window."""
    found, energy = ours.get("utilisation"), ours.get("energy") or {}
    if not found:
        return Limit(UNKNOWN, "no step was measured")
    power = Power(energy.get("power_w"), energy.get("power_limit_w"))
    return limit_of([peak_of("MFU", found["mfu"]), peak_of("MBU", found["mbu"])], power, found["missing"] or "")


def _requests(record: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    sent, duration = record["num_prompts"], record["duration"]
    what, ended = ("unfinished", " (ended early)") if ours["partial"] else ("failed", "")
    return f"{record['completed']:,} of {sent:,} completed, {record['failed']:,} {what}, in {duration:,.1f} s{ended}"


def _replicas(screen: Screen, replicas: Sequence[Mapping[str, Any]]) -> None:
    """A line for each replica, those that are not ok first; the latencies above are of all requests together."""
    ordered = sorted(replicas, key=lambda one: (one["verdict"]["word"] == "ok", one["replica"]))
    columns = ("requests/s", "out tok/s", "TTFT p99 ms", "TPOT p50 ms")
    rows = [
        (
            f"{one['replica']} {(one['host'] or 'n/a')[:_HOST]}: {one['verdict']['word']}",
            [
                figure(one["rates"]["completed_qps"]), figure(one["output_tokens_per_s"], 1),
                figure(one["ttft_sched"]["p99_ms"]), figure(one["tpot"]["p50_ms"]),
            ],
        )
        for one in ordered[:MOST_LINES]
    ]  # fmt: skip
    screen.table("replicas", columns, rows)
    if len(replicas) > MOST_LINES:
        screen.row("", f"and {len(replicas) - MOST_LINES} more in the record")


def _server_counts(screen: Screen, ours: Mapping[str, Any]) -> None:
    """The kinds of failures, and prompts that the server counts otherwise than asked; no row if there are none."""
    if kinds := ours.get("failures"):
        screen.row("failed by", *[f"{kind.replace('_', ' ')} {count:,}" for kind, count in kinds.items()])
    prompts = ours.get("prompt_tokens") or {}
    if prompts.get("requests_that_differ"):
        counts = f"{prompts['asked']:,} asked, {prompts['counted_by_the_server']:,} by the server's count"
        screen.row("prompt tokens", f"{counts}; {plural(prompts['requests_that_differ'], 'request')} differ")


def _search(screen: Screen, search: Mapping[str, Any]) -> None:
    """The trials by their rates, and the interval. The other rows of the screen are those of the last trial."""
    by_rate: dict[float, list[str]] = {}
    for trial in search["trials"]:
        by_rate.setdefault(trial["target_qps"], []).append(trial["verdict"])
    screen.table(
        "trials by rate",
        ("held", "failed", "invalid"),
        [
            (f"{rate:,.4g} requests/s", [str(verdicts.count(name)) for name in ("holds", "fails", "invalid")])
            for rate, verdicts in sorted(by_rate.items())
        ],
    )
    if search.get("interval_qps") is not None:
        low, high = search["interval_qps"]
        screen.row("highest rate", f"{low:,.4g} to {high:,.4g} requests/s, {search['confidence']:.0%} confidence")
    screen.row("noise of the host", search.get("noise"))
    screen.row("last trial", "the rows below")


def _latency(record: Mapping[str, Any], ours: Mapping[str, Any], flat: str | None, own: str | None) -> list[str]:
    values = [ours[own][f"{column}_ms"] if own else record[f"{column}_{flat}_ms"] for column in _COLUMNS]
    return [figure(value) for value in values]


def _service_level(ours: Mapping[str, Any]) -> list[str]:
    limits = [f"{name.removesuffix('_ms').upper()} {limit:g} ms" for name, limit in ours["slo"].items() if limit]
    if not limits:
        return ["none stated (--slo-ttft-ms, --slo-tpot-ms, --slo-e2e-ms)"]
    goodput = f"goodput {figure(ours['rates']['goodput_qps'])} requests/s"
    return [f"{share(ours['slo_attainment'])} of the requests kept {', '.join(limits)}", goodput]


def _queue(record: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    waiting = (ours.get("queue") or {}).get("most_waiting")  # a server does not report it
    return [
        *([] if waiting is None else [f"at most {waiting:,} waiting"]),
        *([] if (most := record["max_concurrent_requests"]) is None else [f"at most {most:,} in flight"]),
        f"TTFT trend {_trend(ours['ttft_slope'])}",
    ]


def _trend(slope: float | None) -> str:
    return "n/a" if slope is None else f"{slope:+.2f} s per second of load".replace("-0.00", "+0.00")


def _memory(ours: Mapping[str, Any]) -> list[str]:
    memory, cache = ours.get("memory") or {}, ours["kv_cache"]
    found = []
    if cache and memory.get("kv_used_percent") is not None:
        size = gib(cache["bytes_per_rank"])
        found.append(f"at most {memory['kv_used_percent']:.1f} % of {size} KV cache per rank")
    if (peak := memory.get("peak_allocated_bytes")) is not None:
        found.append(f"peak {peak / 2**30:.1f} GiB allocated on rank 0")
    return found


def _power(ours: Mapping[str, Any], no_meter: str) -> list[str]:
    energy = ours.get("energy")
    if not energy:
        return [f"n/a ({no_meter})" if no_meter else "n/a"]
    gpus = plural(energy["gpus"], "GPU")
    return [f"{energy['power_w']:,.0f} W mean of {gpus}", f"{figure(energy['tokens_per_joule'], 3)} output tokens/J"]


def _utilisation(ours: Mapping[str, Any]) -> list[str]:
    found = ours.get("utilisation")
    if not found:
        return []
    if found["missing"]:
        return [f"n/a ({found['missing']})"]
    return [
        f"{name} {peak['percent']:.1f} % of {peak['peak']:g} {unit}, {peak['source']}"
        for name, key, unit in (("MFU", "mfu", "TFLOP/s"), ("MBU", "mbu", "TB/s"))
        for peak in found[key][-1:]  # the measured peak if there is one, else the datasheet's
    ]


def _copies(identity: Mapping[str, Any]) -> str:
    count = identity.get("data_parallel", 1)
    return f"{count} replicas of " if count > 1 else ""


def _ran(ours: Mapping[str, Any]) -> list[str]:
    identity = ours["identity"]
    if (server := identity.get("server")) is not None:
        software = " ".join(text for text in (server["engine"] or server["software"], server["version"]) if text)
        return [f"{identity['model']} at {server['url']} ({identity['api']})", software]
    return [
        f"{identity['model']}, {identity['dtype']}, KV {identity['kv_dtype']}",
        *([f"FP8 {identity['fp8_mode']}"] if identity["fp8_mode"] != "none" else []),
        f"attention {identity['attention_backend'] or 'not loaded'}",
        *([f"compiled ({identity['compile_mode']})"] if identity["compile_mode"] != "off" else []),
        f"{_copies(identity)}{plural(identity['tensor_parallel'], 'rank')} on {identity['device_name']}",
    ]
