"""Add the findings of a section to a document."""

from llmval_tui.actions.later import DocumentFromResults


class FindingsNote(DocumentFromResults):
    """A dated section with peak memory and times of each length."""

    name = "findings_note"
    title = "note findings"
    about = "Adds a dated section with the section's newest findings to the document, shown as a diff before."
    results = "long-context results"
