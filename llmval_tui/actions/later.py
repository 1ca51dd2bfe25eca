"""Documents that are rewritten from results that this version does not read yet: said plainly, refused."""

from typing import Any

from llmval_tui.actions.api import Context, Proposal
from llmval_tui.actions.common import the_document
from llmval_tui.actions.resolve import resolve_document
from llmval_tui.foundation.errors import Refused
from llmval_tui.runs.records import Gate
from llmval_tui.runs.store import Run


class DocumentFromResults:
    """A step that writes results into a document; a subclass says which."""

    name: str
    title: str
    about: str
    results: str  # what the document is written from

    def propose(self, context: Context) -> Proposal:
        name = the_document(context, "to write to")
        document = resolve_document(name, context.workspace)
        state = {"workspace": "is there", "bundled": "is not in the workspace", "absent": "is not there yet"}
        return Proposal(
            action=self.name,
            summary=self.about,
            details=(f"{name} {state[document.source]}; nothing in it is changed",),
            telemetry=False,
            refusal=f"this version of llmval does not read {self.results} yet, so {name} cannot be written from them; "
            "do it by hand and tick the item with a note, or wait for a later release.",
        )

    def perform(self, run: Run) -> int:
        raise Refused(f"this version of llmval does not read {self.results} yet.")

    def judge(self, run: Run) -> tuple[list[Gate], dict[str, float | None], str, dict[str, Any] | None]:
        raise Refused(f"this version of llmval does not read {self.results} yet; there is nothing to judge.")
