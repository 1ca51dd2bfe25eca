"""Our engine under the load that an item's server had: how much of the time the engine takes, and how much the rest."""

from dataclasses import replace

from llmval_tui.actions.api import Context, Judgement, Proposal
from llmval_tui.actions.command.freeze import build
from llmval_tui.actions.judges.load_test_result import LoadResult, read_result
from llmval_tui.actions.steps.command import judge_results, proposal_of
from llmval_tui.actions.yardstick.engine_command import engine_command, is_server_load_test
from llmval_tui.actions.yardstick.evidence import OF, judged_result, published
from llmval_tui.actions.yardstick.parts import Attribution, attribute
from llmval_tui.foundation.errors import Refused
from llmval_tui.runs.records import Gate, Outcome
from llmval_tui.runs.store import Run, RunStore

YARDSTICK = "yardstick"
# What our engine could not serve, or not in time, is the measurement and no fault.
_MEASURED_ONLY = ("kept up", "SLO")


class Yardstick:
    """The load of an earlier run on our engine. Only `llmval run --yardstick` starts it."""

    name = YARDSTICK
    title = "run our engine under the same load"
    about = "Puts llmval's own engine under the load that the item's server had, and compares the two."
    directives: frozenset[str] = frozenset()

    def propose(self, context: Context) -> Proposal:
        raise Refused("a yardstick belongs to a load test against a server: start it with llmval run --yardstick.")

    def perform(self, run: Run) -> int:
        raise Refused("the load test does the work of a yardstick; there is nothing else to perform.")

    def judge(self, run: Run) -> Judgement:
        gates, metrics, summary, question = judge_results(run)
        gates = [_as_measured(gate) for gate in gates]
        of = str(run.intent.params.get(OF))
        server_run = RunStore(run.workspace).get(of)
        server, ours = judged_result(server_run), _own_result(run)
        if server is None or ours is None:
            which = f"the run {of} has no unchanged result" if server is None else "this run left no result"
            gates.append(Gate("same load", Outcome.INVALID, "not comparable", "two results of load tests", which))
            return gates, metrics, summary, question
        gates.append(same_load(server, ours))
        if server.search is not None or ours.search is not None:
            return gates, metrics, f"{summary}; compare the two rates with llmval compare {of} {run.id}", question
        found = attribute(server, published(server_run), ours)
        if found is None:
            return gates, metrics, f"{summary}; no request was completed on one of the two sides", question
        return gates, metrics | found.metrics(), f"{summary}; {sentence(found)}", question


def propose_yardstick(context: Context, load: Run, server: Run) -> Proposal:
    """The same load on our engine, with the model and the precision of the server.

    Args:
        context: of the item whose load test ran.
        load: the run of that load test.
        server: the run of its server.

    Raises:
        Refused: our engine cannot have the same load, model or precision.
    """
    words = next((one.argv for one in load.intent.commands if is_server_load_test(one.argv)), None)
    if words is None:
        raise Refused("the item's load generator is not openai_load_test.py, so its load cannot be repeated exactly.")
    text = engine_command(
        words,
        server.intent.commands[0].argv,
        context.workspace,
        yardstick_file(load.id),
        on_cpu=not context.gpu_count,
    )
    # The item's preset has changed the load already.
    context = replace(context, options=replace(context.options, preset=None, tick=False))
    built = [build(context, text)]
    summary = f"Puts our engine under the load of run {load.id}, with the model of its server, and compares the two."
    return proposal_of(YARDSTICK, context, built, summary, **{OF: load.id})


def yardstick_file(run_id: str) -> str:
    """Where our engine's result goes, relative to the workspace; `run_id` is that of the load test."""
    return f"artifacts/{YARDSTICK}/{run_id}.json"


def same_load(server: LoadResult, ours: LoadResult) -> Gate:
    """Whether both had the same requests: as many, at the same intended times, of the same lengths."""
    name, bound = "same load", "the same arrivals, prompt lengths and output lengths"
    one, other = (sorted(side.records, key=lambda record: record.intended_s) for side in (server, ours))
    if len(one) != len(other):
        return Gate(name, Outcome.INVALID, f"{len(one)} and {len(other)} requests", bound, "they are not the same load")
    moved = sum(abs(a.intended_s - b.intended_s) > 1e-3 for a, b in zip(one, other, strict=True))
    longer = sum(a.output_tokens != b.output_tokens for a, b in zip(one, other, strict=True) if a.done and b.done)
    prompts = _prompt_lengths(server) != _prompt_lengths(ours)
    wrong = [f"{moved} arrivals differ"] * bool(moved) + [f"{longer} outputs have other lengths"] * bool(longer)
    wrong += ["the prompts have other lengths"] * prompts
    measured = "; ".join(wrong) or f"{len(one)} requests"
    return Gate(name, Outcome.INVALID if wrong else Outcome.PASS, measured, bound, "not the same load" if wrong else "")


def _prompt_lengths(side: LoadResult) -> list[int]:
    lengths = side.flat.get("input_lens")
    return sorted(lengths) if isinstance(lengths, list) and all(isinstance(one, int) for one in lengths) else []


def _as_measured(gate: Gate) -> Gate:
    if gate.outcome is not Outcome.FAIL or not gate.name.startswith(_MEASURED_ONLY):
        return gate
    return replace(gate, outcome=Outcome.PASS, reason=f"a yardstick is not a criterion: {gate.reason or gate.bound}")


def _own_result(run: Run) -> LoadResult | None:
    found = [read_result(run.workspace / artifact.path) for artifact in run.intent.artifacts if artifact.schema]
    return next((result for result in found if result is not None), None)


def sentence(found: Attribution) -> str:
    """The difference and its largest parts, in one sentence."""
    text = (
        f"a request took {found.server_ms:.0f} ms on the server and {found.ours_ms:.0f} ms on our engine "
        "(means, from the intended arrival)"
    )
    shares = [(part, share) for part in found.parts if (share := found.share_percent(part)) is not None]
    if not shares:
        return text
    shares.sort(key=lambda pair: -abs(pair[1]))
    named = ", ".join(f"{part.name} {share:.0f} %" for part, share in shares[:3])
    return f"{text}; of the difference: {named}"
