"""A pattern that is compiled when it is first used."""

import re
from importlib import import_module

import pytest

from llmval_tui.foundation.lazy_pattern import _LazyPattern, lazy_pattern


def test_it_is_compiled_once_by_its_first_use(monkeypatch):
    compiled = []
    own = re.compile
    monkeypatch.setattr(re, "compile", lambda *stated: (compiled.append(stated), own(*stated))[1])
    pattern = lazy_pattern(r"a(\d)", re.I)
    assert compiled == []
    assert pattern.search("xA1").group(1) == "1" and pattern.sub("-", "a2") == "-"
    assert compiled == [(r"a(\d)", re.I)]


@pytest.mark.parametrize("name", ["criteria.wording.comparisons", "criteria.wording.text_claims", "reading.roles"])
def test_every_pattern_that_waits_can_be_compiled(name):
    waiting = []

    def look(value):
        if isinstance(value, _LazyPattern):
            waiting.append(value)
        elif isinstance(value, (tuple, list)):
            for part in value:
                look(part)
        elif isinstance(value, dict):
            look([*value.values()])

    for value in vars(import_module(f"llmval_tui.actions.{name}")).values():
        look(value)
    assert waiting
    for one in waiting:
        assert one.compiled.pattern
