"""Reads the results of `vllm bench`."""

from llmval_tui.actions.tools.model import LeftFiles, Promise, Tool, ToolResult


class VllmServe(Tool):
    """`vllm bench serve`."""

    name = "vllm bench serve"
    versions = "0.32"

    def outputs(self) -> tuple[Promise, ...]:
        return ()

    def missing_flag(self) -> str | None:
        return None

    def read(self, left: LeftFiles) -> ToolResult:
        return ToolResult([])
