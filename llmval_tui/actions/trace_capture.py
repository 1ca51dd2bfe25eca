"""Capture a trace: a script that profiles, judged like any command by its exit code and by what it leaves."""

from llmval_tui.actions.api import Context, Proposal
from llmval_tui.actions.build import build
from llmval_tui.actions.command import CommandAction, proposal_of, the_command


class TraceCapture(CommandAction):
    """A command whose result is a trace rather than figures."""

    name = "trace_capture"
    title = "capture a trace"
    about = "Runs the item's profiling script on the GPUs and keeps the trace it writes."

    def propose(self, context: Context) -> Proposal:
        built = build(context, the_command(context))
        name = built.shape.script or built.shape.program
        return proposal_of(self.name, context, [built], f"Runs {name} and keeps the trace it writes.")
