"""Rewrite the tables of a document from a section's results."""

from llmval_tui.actions.later import DocumentFromResults


class TableUpdate(DocumentFromResults):
    """The tables between the document's markers; its prose stays."""

    name = "table_update"
    title = "update tables"
    about = "Rewrites the document's tables from the section's newest summary, shown as a diff before."
    results = "power summaries"
