"""Output that plainly contradicts a demand for success is never ticked; everything else leaves it to the exit code."""

import pytest

from llmval_tui.actions.criteria.expect import parse_expect
from llmval_tui.actions.criteria.frozen import PARAMETER, as_params
from llmval_tui.actions.criteria.wording.success import success_demanded
from llmval_tui.actions.gates.contradictions import contradiction_gates
from llmval_tui.actions.judge import judge
from llmval_tui.runs.records import Command, Outcome, RestsOn

FAIL, UNCLEAR = Outcome.FAIL, Outcome.INCONCLUSIVE
TESTS = "All tests pass: run `./x`"
HEALTH = "Run the health check: `./x`"


def run_with(workspace, text, stdout, stderr="", commands=1, **params):
    labels = ["main", "second"][:commands]
    run = workspace.run(
        workspace.context(text),
        commands=[Command(label, ["./x"], "./x") for label in labels],
        telemetry=False,
        params=params,
    )
    (run.folder / "logs" / "main.stdout.log").write_text(stdout)
    (run.folder / "logs" / "main.stderr.log").write_text(stderr)
    return run


def outcome_of(run):
    gates = contradiction_gates(run)
    return gates[0].outcome if gates else None


@pytest.mark.parametrize(
    ("text", "demanded"),
    [
        (TESTS, "All tests pass"),
        ("The test succeeds: run `./x`", "The test succeeds"),
        (HEALTH, "Run the health check"),
        ("Every GPU passes (`./x`)", "Every GPU passes"),
        ("All 8 GPUs are ok: `./x`", "All 8 GPUs are ok"),
        ("`./x` must run without failures", "must run without failures"),
        ("Run `./x`; all requests must succeed", "all requests must succeed"),
        ("After the reboot, every node is healthy: `./x`", "every node is healthy"),
        ("All unit tests pass with `./x`", "All unit tests pass with"),
        ("`./x` succeeds on every node", "succeeds on every node"),
        ("Run the tests: `./x`", None),
        ("Start the health checker: `./x`", None),
        ("Run the first pass: `./x`", None),
        ("Make two passes: `./x`", None),
        ("Pass the token to `./x`", None),
        ("If all tests pass, run `./x`", None),
        ("Once all tests pass, run `./x`", None),
        ("All tests pass, except those that may fail: `./x`", None),
        ("The tests are expected to fail, the run succeeds: `./x`", None),
        ("Run `./all-tests-pass`", None),
    ],
)
def test_only_words_that_demand_success_count(text, demanded):
    assert success_demanded(text) == demanded


@pytest.mark.parametrize(
    ("text", "stdout", "outcome"),
    [
        (TESTS, "8 passed, 2 failed\n", FAIL),
        (TESTS, "===== 2 failed, 8 passed in 1.20s =====\n", FAIL),
        (TESTS, "Tests:       2 failed, 8 passed, 10 total\n", FAIL),
        (TESTS, "test result: FAILED. 8 passed; 2 failed; 0 ignored\n", FAIL),
        (TESTS, "FAILED (failures=2, errors=1)\n", FAIL),
        (TESTS, "Tests run: 10, Failures: 2, Errors: 0, Skipped: 0\n", FAIL),
        (TESTS, "10 examples, 1 failure\n", FAIL),
        (TESTS, "2 of 10 tests failed\n", FAIL),
        (TESTS, "failures: 3\n", FAIL),
        (TESTS, '{\n  "failed": 2,\n}\n', FAIL),
        (TESTS, "not ok 3 - memory\n", FAIL),
        (TESTS, "--- FAIL: TestMemory (0.00s)\n", FAIL),
        (TESTS, "tests/a.py::test_b FAILED   [ 50%]\n", FAIL),
        (TESTS, "FAILED tests/a.py::test_b - assert 1 == 2\n", FAIL),
        (TESTS, "FAIL\n", FAIL),
        (TESTS, "Status: FAILED\n", FAIL),
        ("The test succeeds: run `./x`", "RESULT: FAILED\n", FAIL),
        (HEALTH, "health: FAIL\n", FAIL),
        (HEALTH, "Health check failed.\n", FAIL),
        ("Every node is healthy: `./x`", "2 nodes are unhealthy\n", FAIL),
        (HEALTH, "engine Up 3 hours (unhealthy)\n", UNCLEAR),
        (HEALTH, "health: ok\nhealth: unhealthy\n", FAIL),
        ("Every GPU passes: `./x`", "GPU 0: PASS\nGPU 1: FAIL\n", FAIL),
        ("No failures: `./x`", "8 passed, 2 failed\n", FAIL),
        # It may be the result of something beside what is demanded, or the output says both.
        (TESTS, "IPv6: FAIL\n", UNCLEAR),
        (TESTS, "errors: 1\n", UNCLEAR),
        (TESTS, "2 requests failed\n", UNCLEAR),
        (TESTS, "2 failed, 8 passed\nrerun\n10 passed\n", UNCLEAR),
    ],
)
def test_a_plain_contradiction_is_quoted(workspace, text, stdout, outcome):
    run = run_with(workspace, text, stdout)
    (gate,) = contradiction_gates(run)
    assert gate.outcome is outcome, gate
    assert "logs/main.stdout.log:" in gate.reason
    assert ("expect=" in gate.reason) == (outcome is UNCLEAR)
    assert judge(run).outcome is outcome


@pytest.mark.parametrize(
    "stdout",
    [
        "done\n",
        "10 passed, 0 failed\n",
        "10 passed in 1.2s\n",
        "8 passed, 2 xfailed\n",
        "no failures\n",
        "failed: 0\n",
        "errors=0 failures=0\n",
        "0 of 10 tests failed\n",
        "Tests run: 10, Failures: 0, Errors: 0\n",
        "OK (expected failures=1)\n",
        "test_fail_fast PASSED\n",
        "tests/a.py::test_no_failover PASSED [ 50%]\n",
        "failover: ok\nfail_fast: true\non_fail: fail\n",
        "attempt 1 failed, retrying\nattempt 2: ok\n",
        "Failed to load the optional module x\n",
        "FAILED to reach the mirror, using the cache\n",
        "port 8080 failed, using 8081\n",
        "Test  PASS  FAIL\nmemory  8  0\n",
        "PASS/FAIL threshold: 0.95\n",
        "max failures: 3\nfailures allowed: 2\n",
        "Corrected ECC errors: 12\nerrors: 1.5e-6\nmax error: 2\n",
        "health: unhealthy\nhealth: healthy\n",
        "unhealthy nodes: none\n0 unhealthy\nunhealthy: 0\n",
        "RESULT: FAILED\n10 passed in 1.2s\n",  # printed by a test
        "step 3 failed over to node 2\n",
        "[INFO] failure domain: rack 3\n",
    ],
)
def test_other_output_leaves_the_exit_code(workspace, stdout):
    for text in (TESTS, HEALTH):
        run = run_with(workspace, text, stdout)
        assert contradiction_gates(run) == []
        verdict = judge(run)
        assert (verdict.outcome, verdict.rests_on) == (Outcome.PASS, RestsOn.EXIT_CODE)


def test_without_a_demand_nothing_contradicts(workspace):
    assert outcome_of(run_with(workspace, "Run `./x`", "8 passed, 2 failed\n")) is None


def test_standard_error_counts_too(workspace):
    assert outcome_of(run_with(workspace, TESTS, "done\n", "2 failed, 8 passed\n")) is FAIL


def test_of_several_commands_it_is_unknown_which_one_is_meant(workspace):
    assert outcome_of(run_with(workspace, TESTS, "2 failed, 8 passed\n", commands=2)) is UNCLEAR


def test_what_the_author_states_replaces_it(workspace):
    stated = as_params([parse_expect("exit == 0")])
    assert outcome_of(run_with(workspace, TESTS, "2 failed, 8 passed\n", **{PARAMETER: stated})) is None
