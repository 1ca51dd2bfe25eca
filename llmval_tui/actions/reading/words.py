"""What the words of an item name: documents and flags."""

import re

from llmval_tui.checklist.model import Step


def documents(step: Step) -> list[str]:
    """The Markdown files in the code spans and links of the step, in order."""
    linked = re.findall(r"\]\(([^()\s#]+\.md)(?:#[^()\s]*)?\)", step.text)
    return list(dict.fromkeys([span for span in step.spans if re.fullmatch(r"\S+\.md", span)] + linked))


def flag_spans(step: Step) -> list[str]:
    """The code spans that hold only flags, such as `--compile-mode smart`."""
    return [span for span in step.spans if re.match(r"--?[A-Za-z]", span)]
