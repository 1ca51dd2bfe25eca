"""The grammar of `expect=`, and the other keys of a comment that say how a command runs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmval_tui.actions.criteria.directives import Directives, stated_directives
from llmval_tui.actions.criteria.expect import parse_expect, stated_criteria
from llmval_tui.checklist.model import parse
from llmval_tui.foundation.errors import Refused


def fields(text):
    one = parse_expect(text)
    found = (one.source, one.selector, one.comparison, one.bound, one.unit)
    return found + ((one.which,) if one.which != "all" else ()) + (("i",) if one.ignore_case else ())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"stdout /busbw\s+(\S+)/ >= 400", ("stdout", r"/busbw\s+(\S+)/", ">=", 400.0, None)),
        ("out.json metrics.ttft.p99 <= 200 ms", ("out.json", "metrics.ttft.p99", "<=", 200.0, "ms")),
        ("out.json a.b<=200ms", ("out.json", "a.b", "<=", 200.0, "ms")),
        ("stderr !~ /Xid/", ("stderr", None, "not matches", "Xid", None)),
        ("stdout ~ /ok/i", ("stdout", None, "matches", "ok", None, "i")),
        (r"count /GPU \d/ == 8", ("stdout", r"/GPU \d/", "==", 8.0, None, "count")),
        (r"distinct stdout /^v (\S+)/ == 1", ("stdout", r"/^v (\S+)/", "==", 1.0, None, "distinct")),
        (r"count stderr /retry/ < 3", ("stderr", "/retry/", "<", 3.0, None, "count")),
        (r"stdout last /bw (\d+)/ > 3", ("stdout", r"/bw (\d+)/", ">", 3.0, None, "last")),
        (r"any stdout /bw (\d+)/ > 3", ("stdout", r"/bw (\d+)/", ">", 3.0, None, "any")),
        ("exit == 0", ("exit", None, "==", 0.0, None)),
        ("duration <= 10 min", ("duration", None, "<=", 10.0, "min")),
        ("result ttft.p99 <= 200 ms", ("result", "ttft.p99", "<=", 200.0, "ms")),
        ("stdout empty", ("stdout", None, "empty", None, None)),
        ("stdout not empty", ("stdout", None, "not empty", None, None)),
        ("stdout == 'chat-70b'", ("stdout", None, "==", "chat-70b", None)),
        ("stdout == chat-70b", ("stdout", None, "==", "chat-70b", None)),
        ("stdout contains Lustre : Supported", ("stdout", None, "contains", "Lustre : Supported", None)),
        ("stdout not contains Fail", ("stdout", None, "not contains", "Fail", None)),
        ("stdout ends with done", ("stdout", None, "ends with", "done", None)),
        ("stdout last line contains OK", ("stdout", None, "last line contains", "OK", None)),
        (r"stdout /nccl (\S+)/ version >= 2.27.3", ("stdout", r"/nccl (\S+)/", "version >=", "2.27.3", None)),
        ("a/b.json results[?x > `3`].p99 < 5", ("a/b.json", "results[?x > `3`].p99", "<", 5.0, None)),
        ('out.json "a < b".c == 3', ("out.json", '"a < b".c', "==", 3.0, None)),
        ("out.json max(lat) < 1.5 s", ("out.json", "max(lat)", "<", 1.5, "s")),
        ("out.json ok == true", ("out.json", "ok", "==", "true", None)),
        ("out.json iops >= 1.2 M", ("out.json", "iops", ">=", 1200000.0, None)),
        ("out.json loss < 1e-3", ("out.json", "loss", "<", 0.001, None)),
        (r"stdout /a\/b (\d+)/ == 1", ("stdout", r"/a/b (\d+)/", "==", 1.0, None)),
    ],
)
def test_grammar(text, expected):
    assert fields(text) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "an empty text is not a source"),
        ("stdot ~ /x/", "“stdot” at column 1 is not a source"),
        ("/x/ == 3", "“/x/” at column 1 is not a source"),
        ("stdout", "it has no operator"),
        ("stdout /x(/ >= 3", "is not a regular expression"),
        ("stdout /x >= 3", "the /…/ at column 8 has no end"),
        ("stdout /x/ >= 3", "has no group for the number"),
        (r"stdout /(x)(\d)/ >= 3", "has 2 groups"),
        ("stdout /(x)/g >= 3", "/g is not a flag"),
        ("stdout // >= 3", "is empty"),
        ("stdout /(x)/ 3", "an operator is missing at column 14"),
        ("stdout >= 3", "does not say which number of stdout"),
        ("stdout /(x)/ >= many", "“many” is not a number"),
        ("stdout /(x)/ >= 3 furlongs", "“furlongs” is not a unit"),
        ("stdout /(x)/ >=", "the bound after >= is missing"),
        ("stdout ~ x", "write /x/"),
        ("stdout empty now", "“now” after empty means nothing"),
        ("exit ~ /0/", "exit is compared with a number"),
        ("duration < 10", "needs a unit of time"),
        ("result /x/ < 3", "result needs the name of a metric"),
        ("result < 3", "result needs the name of a metric"),
        ("count stdout == 3", "count compares how often"),
        ("out.json a..b < 3", "nor a JSON path"),
        ("/etc/passwd root < 3", "outside the workspace"),
        ("../x.json a < 3", "outside the workspace"),
        ("stdout == 'x", "has no end"),
    ],
)
def test_a_wrong_expect_is_refused_in_one_sentence(text, says):
    with pytest.raises(Refused) as refusal:
        parse_expect(text)
    assert says in str(refusal.value) and "\n" not in str(refusal.value)


PARTS = st.sampled_from(
    [
        "stdout", "stderr", "exit", "result", "out.json", "a.b", "/x (\\d+)/", "/(/", ">=", "==", "~", "!~", "empty",
        "count", "3", "3 ms", "'x", "`", "[?", "last line contains", "version >=", "/", "\\", "duration", "é", "  ",
    ]
)  # fmt: skip


@given(st.one_of(st.text(max_size=60), st.lists(PARTS, max_size=7).map(" ".join)))
def test_any_text_is_a_criterion_or_a_refusal(text):
    try:
        one = parse_expect(text)
    except Refused as refusal:
        assert str(refusal).startswith("expect=")
    else:
        assert one.comparison and one.source


NUMBERS = st.floats(min_value=-1e6, max_value=1e6, allow_nan=False).map(lambda value: float(f"{value:.6g}"))


@given(NUMBERS, st.sampled_from([None, "ms", "GB/s", "%", "°C"]), st.sampled_from(["<", "<=", ">", ">=", "==", "!="]))
def test_a_bound_is_read_as_written(number, unit, sign):
    one = parse_expect(f"out.json a.b {sign} {number:g}{' ' + unit if unit else ''}")
    assert (one.bound, one.unit, one.comparison) == (float(f"{number:g}"), unit, sign)


def step_with(comment, tmp_path):
    text = f"# L\n\n## A\n- [ ] Run `./x` <!-- llmval: {comment} -->\n"
    return parse(text.encode(), tmp_path / "list.md").steps[0]


def test_expect_and_artifact_may_be_repeated(tmp_path):
    step = step_with(r'expect="stdout /bw\s+(\S+)/ >= 400" expect="stderr empty" artifact=a artifact="b c"', tmp_path)
    assert [one.text for one in stated_criteria(step)] == [r"stdout /bw\s+(\S+)/ >= 400", "stderr empty"]
    assert stated_directives(step).artifacts == ("a", "b c")


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        ("timeout=90", Directives(timeout_s=90.0)),
        ("timeout=90s", Directives(timeout_s=90.0)),
        ("timeout='20 min' retries=2", Directives(timeout_s=1200.0, retries=2)),
        ("timeout=2h", Directives(timeout_s=7200.0)),
        ("retries=0", Directives()),
        ("timeout=0", "is not a duration"),
        ("timeout=never", "is not a duration"),
        ("timeout=90d", "is not a duration"),
        ("timeout=5GB", "is not a duration"),
        ("timeout=1e9h", "is not a duration"),
        ("retries=-1", "is not a number from 0"),
        ("retries=99", "is not a number from 0"),
        ("retries=²", "is not a number from 0"),
        ("retries=", "is not a number from 0"),
        ("artifact=", "names no file"),
    ],
)
def test_directives(tmp_path, comment, expected):
    step = step_with(comment, tmp_path)
    if isinstance(expected, str):
        with pytest.raises(Refused, match=expected):
            stated_directives(step)
    else:
        assert stated_directives(step) == expected
