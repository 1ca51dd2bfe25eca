"""Start a server for the following items of a section, and end it before the section does."""

import time
from dataclasses import replace
from pathlib import Path

from llmval_tui.actions.api import Condition, Context, Judgement, Need, Proposal
from llmval_tui.actions.command.freeze import shell_words
from llmval_tui.actions.command.item import build_item
from llmval_tui.actions.criteria.directives import READY_WITHIN_S, SERVER_KEYS, duration_of
from llmval_tui.actions.section_runs import SERVER, SERVER_STOP, perform_command
from llmval_tui.actions.steps.command import proposal_of
from llmval_tui.actions.tools.servers import checked_url, known_server, listener_on
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.text import clean_line
from llmval_tui.runs import client
from llmval_tui.runs.command_end import code_text
from llmval_tui.runs.records import Gate, Outcome, ServerSpec, ServerStatus
from llmval_tui.runs.server_life import KILL, request_stop, running_servers, sentence, url_of
from llmval_tui.runs.store import Run

SERVER_RUN = "server_run"  # in the params of a stop: the id of the server's run
_MOST_STOP_S = 180.0  # the ladder takes less


class Server:
    """A server that lives until its section, its plan or a stop ends it."""

    name = SERVER
    title = "start a server"
    about = "Starts a server for the following items of its section, and judges that it was ready and lived on."
    directives = SERVER_KEYS

    def propose(self, context: Context) -> Proposal:
        reading = context.reading
        if reading is None or len(reading.commands) != 1:
            raise Refused("a server's item has exactly one command: write it as a code span, and the rest as items.")
        # A preset makes the load small; the server is the one that is written.
        built = build_item(replace(context, options=replace(context.options, preset=None)), reading)
        command = built[0].command
        if command.tee is not None:
            raise Refused(
                "the output of a server is in the logs of its run, which are evidence: remove > or tee from its "
                "command."
            )
        spec = _spec(context, shell_words(built[0].argv))
        # A server of llmval ends before the next plan starts one, and a plan makes room for its own next one.
        ours = any(url_of(run) == spec.url for run in running_servers(context.store))
        if not ours and (holder := listener_on(spec.url)):
            raise Refused(
                f"something listens on {spec.url} already: {holder}. End it, or give the server another port."
            )
        name = Path(built[0].argv.script or built[0].argv.program).name
        summary = (
            f"Starts {name} on {spec.url} for the following items of the section; it must complete a request within "
            f"{spec.ready_within_s:g} s."
        )
        return replace(proposal_of(self.name, context, built, summary), server=spec)

    def perform(self, run: Run) -> int:
        raise Refused("the server's command does the work; there is nothing else to perform.")

    def judge(self, run: Run) -> Judgement:
        status = run.status()
        known = status.server or ServerStatus()
        spec = run.intent.server
        within = f"a completed request within {spec.ready_within_s:g} s" if spec is not None else "a completed request"
        metrics: dict[str, float | None] = {"ready_s": known.ready_s, "left_behind": known.left_behind}
        if known.ready_s is None:
            reason = known.problem or "it was ended before it was ready"
            early = Outcome.FAIL if known.problem else Outcome.INCONCLUSIVE
            return [Gate("server ready", early, "no", within, reason)], metrics, "", None
        gates = [Gate("server ready", Outcome.PASS, f"after {known.ready_s:.1f} s", within), *_end_gates(run, known)]
        version = f" {known.version}" if known.version else ""
        return gates, metrics, f"served {known.model}{version}, ready in {known.ready_s:.1f} s", None


def _end_gates(run: Run, known: ServerStatus) -> list[Gate]:
    status = run.status()
    code = status.commands[-1].exit_code if status.commands else None
    if known.stopped is None:
        if status.cancelled:
            return []  # the gate of the cancel says it
        problem = known.problem or "it ended, and its end was not observed"
        return [Gate("server alive", Outcome.FAIL, code_text(code), "alive until llmval ends it", problem)]
    alive = Gate("server alive", Outcome.PASS, f"until it was ended by {known.stopped}", "alive until llmval ends it")
    steps = "; ".join(known.stop) or "its end was not observed"
    bound = "ended without SIGKILL, nothing is left now"
    if any(step.startswith("sent SIGKILL") for step in known.stop):
        bound = "killed on purpose, nothing is left now"
    end = Gate("server end", Outcome.FAIL if known.forced else Outcome.PASS, f"{code_text(code)}: {steps}", bound)
    return [alive, end]


class ServerStop:
    """Ends the server that the section started last."""

    name = SERVER_STOP
    title = "end a server"
    about = "Ends the server of the section by SIGINT, SIGTERM, SIGKILL, or kills it, and judges that nothing is left."
    directives = frozenset({"signal", "expect"})
    needs = (Need(frozenset({SERVER}), Condition.SERVES),)

    def propose(self, context: Context) -> Proposal:
        signal = context.step.directives.get("signal")
        if signal not in (None, KILL):
            raise Refused(
                f"signal={clean_line(signal)} is not understood: write signal=KILL to kill the server, or nothing."
            )
        how = "Kills the server of the section" if signal else "Ends the server of the section by SIGINT, then SIGTERM"
        return Proposal(
            action=self.name,
            summary=f"{how}, and judges that nothing of it is left.",
            commands=(perform_command(context),),
            params={"signal": signal},
            telemetry=False,
        )

    def perform(self, run: Run) -> int:
        server = _server_of(run)
        print(f"{server.id}: {sentence(server)}", flush=True)
        began = time.monotonic()
        request_stop(server, f"item {run.intent.step.number}", kill=run.intent.params.get("signal") == KILL)
        if not client.wait(server, _MOST_STOP_S):
            print(f"it has not ended within {_MOST_STOP_S:.0f} s", flush=True)
            return 1
        print(f"it has ended after {time.monotonic() - began:.1f} s", flush=True)
        for step in (server.status().server or ServerStatus()).stop:
            print(step, flush=True)
        return 0

    def judge(self, run: Run) -> Judgement:
        server = _server_of(run)
        known = server.status().server or ServerStatus()
        bound = "ended by this item, nothing is left now"
        if known.stopped is None:
            reason = known.problem or "it had ended before, or was not ended"
            return [Gate("server end", Outcome.FAIL, "not by this item", bound, reason)], {}, "", None
        gate = Gate("server end", Outcome.FAIL if known.forced else Outcome.PASS, "; ".join(known.stop), bound)
        count = known.left_behind
        left = f" and {count} process{'es' * (count > 1)} that outlived it" if count else ""
        summary = f"ended the server of {server.intent.step.number}{left}"
        return [gate], {"left_behind": known.left_behind}, summary, None


def _server_of(run: Run) -> Run:
    run_id = run.intent.params.get(SERVER_RUN)
    if not run_id:
        raise Refused("no server of this section is running, so there is none to end.")
    return Run(run.folder.parent / str(run_id))


def _spec(context: Context, words: list[str]) -> ServerSpec:
    """Where the server must answer, from the item's comment and its command.

    Raises:
        Refused: neither says it, or a key cannot be read.
    """
    stated = context.step.directives
    if "url" in stated:
        url = checked_url(stated["url"])
    else:
        known = known_server(words)
        if known is None or known.url is None:
            raise Refused(
                "llmval does not know where this server answers: write <!-- llmval: action=server "
                "url=http://127.0.0.1:PORT --> after the item's text."
            )
        url = known.url
    ready = stated.get("ready")
    within_s = duration_of("ready", ready) if ready is not None else READY_WITHIN_S
    return ServerSpec(url, within_s, stated.get("model"))
