"""A list with a load test and its comparison with a baseline, and a helper to judge the comparison."""

from llmval_tui.actions.registry import action_named
from llmval_tui.runs.records import worst

RUN_ITEM = (
    "Run `torchrun --nproc_per_node=2 x/inference_server_load_test.py --fp8-mode none --attention-backend flex "
    "--device cpu --model tiny --output-json artifacts/r.json`"
)
LIST = f"# L\n\n## 1. Part\n- [ ] {RUN_ITEM}\n- [ ] Update expectations in `docs/b.md` if they drift >5%.\n"


def judged(workspace, run):
    gates, _, _, question = action_named("baseline_drift").judge(run)
    workspace.judge(run, worst(gates), question)
    return {gate.name: gate.outcome for gate in gates}, question
