# Two commands do everything on a fresh Linux machine with Python 3.11 or newer: make demo, make test.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Workers of the test suite: many tests wait for processes, so more workers than cores pay off.
WORKERS ?= 4
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test bench trust fuzz check clean

demo: $(VENV)/.app  ## the dashboard on a scratch workspace; without a terminal the same work headless
	@$(BIN)/llmval demo --dir artifacts/demo

test: $(VENV)/.dev check  ## everything: lint, format, types, import contracts, the whole suite
	$(BIN)/python -m pytest -n $(WORKERS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=runners $(BIN)/lint-imports

bench: $(VENV)/.dev  ## the figures of docs/performance.md for this machine; not timed tests
	$(BIN)/python -m benchmarks

trust: $(VENV)/.dev  ## the table of docs/reliability.md: faults on purpose, and what is true afterwards
	$(BIN)/python -m faults

fuzz: $(VENV)/.dev  ## hostile input for every reader: the table of docs/reliability.md; GUIDED=60: by atheris, 60 s each
	@[ -z "$(GUIDED)" ] || $(PIP_INSTALL) -e '.[fuzz]'
	PYTHONPATH=runners $(BIN)/python -m fuzzing $(if $(GUIDED),--guided $(GUIDED)) $(TARGETS)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "llmval needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 …" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.app: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP_INSTALL) -e '.[runners]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP_INSTALL) -e '.[runners,dev]'
	@touch $@ $(VENV)/.app

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
