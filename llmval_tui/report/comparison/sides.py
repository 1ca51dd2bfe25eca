"""The two sides of a comparison, and the check that they are comparable."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmval_tui.actions.gates.servers import FILE as SERVERS_FILE
from llmval_tui.actions.gates.servers import ServersRecord
from llmval_tui.actions.judges.load_test_machine import ran_here, server_url
from llmval_tui.actions.judges.load_test_result import LoadResult, read_result
from llmval_tui.actions.steps.baseline_change import NOT_AVAILABLE, baseline_of
from llmval_tui.actions.yardstick.evidence import OF
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.record import read_record
from llmval_tui.report.facts import ArtifactFacts, artifacts_of, gpu_inventory_of
from llmval_tui.runs.records import Intent, Outcome, Verdict, engine_url_of
from llmval_tui.runs.store import Run, RunStore

_LOAD_TEST = "load_test"
# Without them, two equal figures do not mean two equal machines, nor a lower one a slower server.
_OF_THE_MACHINE = ("driver", "power limit (W)")


@dataclass(frozen=True, slots=True)
class Side:
    """One load test of one run, from a file that is unchanged since the verdict."""

    label: str  # "A" or "B"
    run_id: str
    intent: Intent
    verdict: Verdict
    artifact: ArtifactFacts
    result: LoadResult
    run: Run | None = None

    @property
    def name(self) -> str:
        return f"{self.label} = {self.run_id}"

    @property
    def server_url(self) -> str | None:
        """Where the server of another program answered; None if our own engine ran."""
        return server_url(self.result.identity)

    @property
    def ran_here(self) -> bool:
        """Whether the model ran on the machine of the run's record."""
        return ran_here(self.result.identity, self.intent)


def side(store: RunStore, name: str, label: str) -> Side:
    """The load test of `RUN`; `RUN:with` or `RUN:without` names one half of a paired run.

    Raises:
        Refused: there is no such run, it is not judged, or it has no unchanged load test result.
    """
    wanted, _, half = name.partition(":")
    run = store.get(wanted)
    verdict = run.verdict()
    if verdict is None:
        raise Refused(f"{run.id} is not judged yet: wait until it ends; llmval status then judges it.")
    artifact = _artifact(run, verdict, half, store)
    path = artifact.judged_path(store.workspace)
    if path is None:
        if artifact.sha256 is None and artifact.state != "missing":
            raise Refused(
                f"the verdict of {run.id} has no hash of {artifact.path}, so its requests may not be the judged ones: "
                "name a run whose result is intact."
            )
        state = {"changed": "was changed or overwritten since"}.get(artifact.state, f"is {artifact.state}")
        raise Refused(
            f"{artifact.path} {state}, so the judged requests of {run.id} are lost: name a run whose result is intact, "
            "and give each run its own --output-json."
        )
    result = read_result(path)
    if result is None:
        raise Refused(f"{artifact.path} of {run.id} is not the result of a load test: compare two load tests.")
    return Side(label, run.id, run.intent, verdict, artifact, result, run)


def _artifact(run: Run, verdict: Verdict, half: str, store: RunStore) -> ArtifactFacts:
    found = [item for item in artifacts_of(run, verdict, store.workspace) if item.schema == _LOAD_TEST]
    outputs = run.intent.params.get("outputs")
    halves: Mapping[str, Any] = outputs if isinstance(outputs, dict) else {}
    if half:
        found = [item for item in found if item.path in (halves.get(half) or [])]
    if len(found) == 1:
        return found[0]
    if found:
        raise Refused(f"{run.id} has {len(found)} load tests: say which, as in {run.id}:{next(iter(halves), 'with')}.")
    which = f" for {half!r}" if half else ""
    raise Refused(f"{run.id} has no load test result{which}: compare two runs of the load test.")


def conditions(side: Side) -> dict[str, str]:
    """The conditions that must be the same on both sides, by name."""
    identity, load = side.result.identity, side.result.ours.get("workload") or {}
    known = baseline_of(side.result, side.intent, side.artifact.path, side.artifact.sha256 or "").identity
    machine = gpu_inventory_of(side.intent.host) if side.ran_here else {}
    # Records before 2026-11-29 do not say whether there was a driver; on a CPU it does not matter.
    no_driver = machine.get("no_driver") or identity.get("device") == "cpu"
    missing = "none" if no_driver else NOT_AVAILABLE
    copies = f"{len(side.result.replicas)} × " if len(side.result.replicas) > 1 else ""
    gpus = f"{copies}{_value(identity.get('tensor_parallel'))} × {_value(identity.get('device_name'))}"
    if side.server_url is not None:  # it does not say which of the machine's GPUs it uses
        gpus = _names_of(machine) or missing
    searched = side.result.search is not None
    return {
        "kind of test": "a search for the highest rate" if searched else "one window",
        "model": _value(identity.get("model")),
        "model shape": _value(identity.get("shape")),
        "precision": NOT_AVAILABLE if identity.get("dtype") is None else known["precision"],
        "GPUs": gpus,
        "driver": _known(known["driver"], missing),
        "power limit (W)": _known(known["power_limit_w"], "none" if machine.get("gpu_count") == 0 else missing),
        # The rate of a search is its result, not a condition.
        **({} if searched else {"target QPS": _value(load.get("target_qps"))}),
        "duration (s)": _value(load.get("duration_s")),
        "burstiness": _value(load.get("burstiness")),
        "most requests in flight": _value(load.get("max_in_flight"), "no limit"),
        "prompt lengths": known["prompt_len"],
        "output lengths": known["output_len"],
        "SLO": known.get("slo", "none"),
        "preset": _value(side.intent.preset, "none"),
    }


def _names_of(machine: Mapping[str, Any]) -> str:
    """The GPUs of a machine, such as `8 × NVIDIA H200`; "" without any."""
    names = Counter(_value(gpu.get("name")) for gpu in machine.get("gpus") or [])
    return ", ".join(f"{count} × {name}" for name, count in names.items())


def _known(value: str, missing: str) -> str:
    return missing if value == NOT_AVAILABLE else value


# Of a yardstick, only the load must be the same: engine, model name, precision and path are what is compared.
_OF_THE_LOAD = (
    "kind of test",
    "host",
    "target QPS",
    "duration (s)",
    "burstiness",
    "most requests in flight",
    "prompt lengths",
    "output lengths",
    "SLO",
)


def yardstick(first: Side, second: Side) -> tuple[Side, Side] | None:
    """The server's side and our engine's, if one is the yardstick of the other; None otherwise."""
    if second.intent.params.get(OF) == first.run_id:
        return first, second
    return (second, first) if first.intent.params.get(OF) == second.run_id else None


def refusals(first: Side, second: Side) -> list[str]:
    """Why the two are not comparable, each reason with both values; empty if they are."""
    one, other = conditions(first), conditions(second)
    both = [name for name in one if name in other]
    if yardstick(first, second) is not None:
        own = {name: _value(side.intent.host.get("name")) for name, side in (("A", first), ("B", second))}
        one, other = one | {"host": own["A"]}, other | {"host": own["B"]}
        both = [name for name in _OF_THE_LOAD if name in one and name in other]
    reasons = [f"{name} is {one[name]} in A and {other[name]} in B" for name in both if one[name] != other[name]]
    reasons += [
        f"{item.label} was judged {item.verdict.outcome.value}: {item.verdict.summary}"
        for item in (first, second)
        if item.verdict.outcome in (Outcome.INVALID, Outcome.INCONCLUSIVE)
    ]
    if (first.run_id, first.artifact.path) == (second.run_id, second.artifact.path):
        reasons.append("A and B are the same result")
    return reasons


def unknown_in_both(first: Side, second: Side) -> list[str]:
    """The conditions that neither run states: two unknown values are not necessarily equal."""
    if yardstick(first, second) is not None:
        return []
    one, other = conditions(first), conditions(second)
    return [name for name in one if one[name] == other.get(name) == NOT_AVAILABLE]


def machine_unknown(first: Side, second: Side, unknown: list[str]) -> str | None:
    """Why no verdict can be given on comparable runs: nothing tells whether their machines were alike."""
    names = [name for name in _OF_THE_MACHINE if name in unknown]
    if not names:
        return None
    said = f"{' and '.join(names)} {'are' if len(names) > 1 else 'is'} not known in either run"
    away = list(dict.fromkeys(str(item.server_url) for item in (first, second) if not item.ran_here))
    if not away:
        return said
    return (
        f"{said}, because the server ran on another machine ({', '.join(away)}). llmval records them of its own "
        "machine: run it where the server is"
    )


def other_differences(first: Side, second: Side) -> list[tuple[str, str, str]]:
    """Further differences, as (name, value in A, value in B): usually the reason for the comparison."""
    one, other = _settings(first), _settings(second)
    if yardstick(first, second) is not None:
        one, other = _engine(first) | one, _engine(second) | other
    names = dict.fromkeys([*one, *other])
    return [
        (name, one.get(name, "not set"), other.get(name, "not set"))
        for name in names
        if one.get(name) != other.get(name)
    ]


def _engine(item: Side) -> dict[str, str]:
    """What a yardstick compares: the engine, and the path to it."""
    of = item.intent.params.get(OF)
    url = engine_url_of(item.intent) or NOT_AVAILABLE
    return {
        "engine": "llmval's own" if of else _value(item.result.identity.get("engine"), "the server's"),
        "path": "none: in the process of the load generator" if of else f"HTTP, {url}",
        **{
            name: NOT_AVAILABLE if value == "None" else value
            for name, value in conditions(item).items()
            if name not in _OF_THE_LOAD
        },
    }


def _settings(item: Side) -> dict[str, str]:
    intent, load = item.intent, item.result.ours.get("workload") or {}
    found = {"host": _value(intent.host.get("name")), "verdict": item.verdict.outcome.value}
    found |= _server_settings(item)
    keys = ("attention_backend", "attention_kernel", "compile_mode", "torch_version")
    found |= {key: _value(item.result.identity.get(key)) for key in keys}
    found |= {key: _value(load.get(key)) for key in ("max_batch", "prefill_chunk", "seed", "temperature")}
    found |= {f"version of {name}": value for name, value in intent.versions.items()}
    found["git commit"] = _value(intent.git.get("commit"), "none")
    found |= intent.environment
    for command in intent.commands:
        found |= command.env
    found["deviations"] = "; ".join(intent.deviations) or "none"
    return found


def _server_settings(item: Side) -> dict[str, str]:
    """What is known of the server: its own words, and its command if the list started it."""
    server = item.result.identity.get("server")
    if not isinstance(server, dict):
        return {}
    found = {"server": " ".join(str(server[key]) for key in ("engine", "version") if server.get(key)) or NOT_AVAILABLE}
    found["server's address"] = _value(server.get("url"))
    record = read_record(ServersRecord, item.run.folder / SERVERS_FILE) if item.run is not None else None
    if record is not None and record.servers:  # of several, the last one is the one that the load went to
        last = record.servers[-1]
        found["server's command"] = last.command
        found |= {f"version of the server's {name}": value for name, value in last.versions.items()}
    return found


def _value(value: Any, missing: str = NOT_AVAILABLE) -> str:
    if value is None:
        return missing
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)
