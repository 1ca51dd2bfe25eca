"""Where the time of a request goes on a server, beside our engine under the same load.

Means over the completed requests, because means of parts add up and percentiles do not. With s = intended arrival,
d = dispatch, f = first token, e = last token, all at the client:

    e − s = (d − s) + queue + prefill + decode + path

`d − s` is the generator's own delay. Queue, prefill and decode are the server's, by its scheduler's clock. The path is
what is left of e − d: HTTP, tokenizer, detokenizer, and the hops between the server's processes. If the server also
publishes the end-to-end time of its front end, the path is split there. Our engine runs in the process of its load
generator, so it has no path. What the server does not publish stays in one part that is called unattributed.
"""

from dataclasses import dataclass
from statistics import fmean

from llmval_tui.actions.judges.load_test_result import LoadResult
from llmval_tui.telemetry.engine.window import EngineWindow

COUNT_TOLERANCE = 0.01  # the server may have timed this share more or fewer requests than the client completed
LEAST_GAP = 0.02  # of our time; a smaller difference is not taken apart
GENERATOR, QUEUE, PREFILL, DECODE = "generator", "scheduler queue", "engine: prefill", "engine: decode"
FRONT_END, TRANSPORT, PATH = "server's front end: tokenizer, hops", "HTTP, streaming, client", "HTTP and tokenizer path"
UNATTRIBUTED = "unattributed"
NOT_KNOWN = "n/a"


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the mean time of a request, in ms. None: not known, and `evidence` says why."""

    name: str
    server_ms: float | None
    ours_ms: float | None
    evidence: str

    @property
    def gap_ms(self) -> float | None:
        """How much of the difference this part is."""
        return None if self.server_ms is None or self.ours_ms is None else self.server_ms - self.ours_ms


@dataclass(frozen=True, slots=True)
class Attribution:
    """The parts of the mean end-to-end time from the intended arrival; they add up to both totals."""

    server_ms: float
    ours_ms: float
    parts: tuple[Part, ...]
    pace: str  # how often a token comes, in the server's scheduler, at the client, and in our engine
    cpu: tuple[str, ...]  # host CPU: a sentence each; it overlaps with the parts
    notes: tuple[str, ...]  # what must be known to read the table

    @property
    def gap_ms(self) -> float:
        return self.server_ms - self.ours_ms

    def share_percent(self, part: Part) -> float | None:
        """The part's share of the difference; None if it is not known, or the difference is too small."""
        if part.gap_ms is None or abs(self.gap_ms) < LEAST_GAP * self.ours_ms:
            return None
        return 100 * part.gap_ms / self.gap_ms

    def metrics(self) -> dict[str, float | None]:
        """The parts by name with unit, for a verdict."""
        found: dict[str, float | None] = {
            "server_e2e_mean_ms": self.server_ms,
            "engine_e2e_mean_ms": self.ours_ms,
            "gap_ms": self.gap_ms,
        }
        for part in self.parts:
            name = part.name.split(":")[-1] if part.name.startswith("engine") else part.name.split(",")[0].split(":")[0]
            key = name.strip().replace("'s", "").replace(" ", "_").lower()
            found[f"gap_{key}_ms"] = part.gap_ms
        return found


def attribute(server: LoadResult, window: EngineWindow | None, ours: LoadResult) -> Attribution | None:
    """Take the difference of the two load tests apart; None if one of them completed no request.

    Args:
        server: the load test against the server, as its client recorded it.
        window: what the server published over that window; None: nothing.
        ours: the load test of our engine.
    """
    done, own = server.done, ours.done
    if not done or not own:
        return None
    late = _mean_ms([one.dispatch_s - one.intended_s for one in done])
    own_late = _mean_ms([one.dispatch_s - one.intended_s for one in own])
    client = _mean_ms([(one.last_s or 0.0) - one.dispatch_s for one in done])
    own_engine = _mean_ms([(one.last_s or 0.0) - one.dispatch_s for one in own])
    own_decode = _mean_ms([(one.last_s or 0.0) - (one.first_s or 0.0) for one in own])
    notes = _notes(server, ours, window)
    parts = [Part(GENERATOR, late, own_late, "intended arrival to dispatch, from the clients' records")]
    own_queue = _own_queue_ms(ours)
    own_prefill = None if own_queue is None else own_engine - own_decode - own_queue
    times = _server_ms(window, len(done))
    if times is None:
        why = "the server published no times of its scheduler that fit these requests"
        parts.append(Part(UNATTRIBUTED, client, own_engine, f"dispatch to last token: {why}"))
    else:
        clock = f"by the clock of {window.engine if window else 'the server'}'s scheduler"
        known = 0.0
        known_own = 0.0
        for name, value, own_value in (
            (QUEUE, times.get("queue"), own_queue),
            (PREFILL, times.get("prefill"), own_prefill),
            (DECODE, times.get("decode"), own_decode),
        ):
            if value is not None and own_value is not None:
                parts.append(Part(name, value, own_value, clock))
                known, known_own = known + value, known_own + own_value
        whole = all(times.get(name) is not None for name in ("queue", "prefill", "decode")) and own_queue is not None
        parts += _rest(client, times.get("e2e"), known, own_engine - known_own, whole=whole)
    total, own_total = late + client, own_late + own_engine
    return Attribution(
        total, own_total, tuple(parts), _pace(server, window, ours), _cpu(window, len(done)), tuple(notes)
    )


def _rest(client_ms: float, front_end_ms: float | None, known_ms: float, own_ms: float, *, whole: bool) -> list[Part]:
    """What the scheduler's times leave of the client's time."""
    if not whole:
        inside = "dispatch to last token, less the parts above: the server does not publish the rest"
        return [Part(UNATTRIBUTED, client_ms - known_ms, own_ms, inside)]
    if front_end_ms is None:
        return [Part(PATH, client_ms - known_ms, own_ms, "the client's time from dispatch, less the parts above")]
    return [
        Part(FRONT_END, front_end_ms - known_ms, own_ms, "end to end in the server's front end, less the parts above"),
        Part(TRANSPORT, client_ms - front_end_ms, 0.0, "the client's time from dispatch, less the front end's"),
    ]


def _server_ms(window: EngineWindow | None, completed: int) -> dict[str, float | None] | None:
    """The server's mean times, in ms, of those that it timed for about as many requests as the client completed."""
    if window is None:
        return None
    found: dict[str, float | None] = {}
    for name in ("queue", "prefill", "decode", "e2e"):
        total, mean = window.times.get(name), window.mean_s(name)
        fits = total is not None and abs(total.count - completed) <= COUNT_TOLERANCE * completed
        found[name] = 1000 * mean if fits and mean is not None else None
    return found if any(found[name] is not None for name in ("queue", "prefill", "decode")) else None


def _own_queue_ms(ours: LoadResult) -> float | None:
    wait = (ours.ours.get("queue") or {}).get("mean_wait_s")
    return 1000 * wait if isinstance(wait, int | float) else None


def _notes(server: LoadResult, ours: LoadResult, window: EngineWindow | None) -> list[str]:
    notes = []
    if len(server.done) < len(server.records):
        notes.append(
            f"{len(server.records) - len(server.done)} of the {len(server.records)} requests to the server did not "
            "complete, and are in no part"
        )
    if len(ours.done) < len(ours.records):
        notes.append(f"our engine completed {len(ours.done)} of {len(ours.records)} requests")
    if window is None:
        notes.append("the server's own metrics were not recorded, or it did not answer twice")
        return notes
    timed = [window.times.get(name) for name in ("queue", "prefill", "decode")]
    counts = {total.count for total in timed if total is not None}
    off = [count for count in counts if abs(count - len(server.done)) > COUNT_TOLERANCE * len(server.done)]
    if off:
        notes.append(
            f"the server timed {off[0]:g} requests and the client completed {len(server.done)}: its times are of other "
            "requests and are not used"
        )
    notes += window.reasons
    if window.counts.get("preemptions"):
        notes.append(f"the server preempted {window.counts['preemptions']:g} requests; their decode time has the pause")
    return notes


def _pace(server: LoadResult, window: EngineWindow | None, ours: LoadResult) -> str:
    """Means over the completed requests: a token at the client that waits for a full core is late there only."""
    scheduler = None if window is None else window.mean_s("inter_token")
    clients = [
        fmean(found) if (found := [one.tpot_s for one in result.done if one.tpot_s is not None]) else None
        for result in (server, ours)
    ]
    step, client, own = (NOT_KNOWN if value is None else f"{1000 * value:.2f} ms" for value in (scheduler, *clients))
    return f"a token every {step} in the server's scheduler, {client} at the client, {own} in our engine"


def _cpu(window: EngineWindow | None, completed: int) -> tuple[str, ...]:
    """The CPU time of the server's processes. It overlaps with the parts, so it has no share of its own."""
    if window is None or window.cores is None or window.processes is None:
        return ("not known: the server's processes were not visible",)
    seconds = window.cores * window.seconds
    lines = [f"{1000 * seconds / completed:.1f} ms of CPU a request, {window.cores:.2f} cores in all"]
    for one in window.processes[:4]:
        if one.cores < 0.05:
            break
        full = ": a full core, which a process with one busy thread cannot exceed" if 0.9 <= one.cores < 1.1 else ""
        lines.append(f"{one.name} ({one.pid}) {one.cores:.2f} cores{full}")
    return tuple(lines)


def _mean_ms(values: list[float]) -> float:
    return 1000 * fmean(values)
