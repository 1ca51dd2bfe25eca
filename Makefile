# Two commands do everything on a fresh Linux machine with Python 3.11 or newer: make demo, make test.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Workers of the test suite: many tests wait for processes, so more workers than cores pay off.
WORKERS ?= 4
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test bench trust fuzz check lock audit licences clean serving bundle man

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

serving: $(VENV)/.dev  ## the ready list for servers on this CPU, with real servers; SERVERS=VENV names an environment that has them
	$(BIN)/python -m benchmarks.serving_acceptance $(if $(SERVERS),--servers $(SERVERS))

trust: $(VENV)/.dev  ## the table of docs/reliability.md: faults on purpose, and what is true afterwards
	$(BIN)/python -m faults --record artifacts/trust/cases.jsonl --table artifacts/trust/table.md

fuzz: $(VENV)/.dev  ## hostile input for every reader: the table of docs/reliability.md; GUIDED=60: by atheris, 60 s each
	@[ -z "$(GUIDED)" ] || $(PIP_INSTALL) -e '.[fuzz]'
	PYTHONPATH=runners $(BIN)/python -m fuzzing $(if $(GUIDED),--guided $(GUIDED)) $(TARGETS)

bundle: $(VENV)/.dev  ## one file for nodes without internet: dist/llmval-<version>.pyz, for CPython 3.11 to 3.14 on two machines
	$(BIN)/python -m bundle.build

# The tools of the targets below stay out of the environment that they look at.
TOOLS := $(VENV)-supply
lock: $(TOOLS)/bin/python  ## pin every file of the dashboard's dependencies by hash, and list them for the wheel
	$(TOOLS)/bin/pip-compile --quiet --generate-hashes --strip-extras --no-emit-index-url --no-emit-trusted-host \
		--no-emit-find-links --no-annotate --no-header -c constraints.txt -o requirements-hashed.txt pyproject.toml
	$(TOOLS)/bin/python sbom.py

man: $(TOOLS)/bin/python  ## docs/llmval.1 from the parser
	$(TOOLS)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt argparse-manpage==4.8 .
	COLUMNS=80 SOURCE_DATE_EPOCH=0 $(TOOLS)/bin/argparse-manpage --module llmval_tui.console.parser --function parser \
		--prog llmval --project-name llmval --manual-title llmval --author "the llmval authors" \
		--description "prove that a multi-GPU node can serve LLMs" --output docs/llmval.1

audit: $(TOOLS)/bin/python  ## known vulnerabilities of the pinned dependencies; asks a service on the network
	$(TOOLS)/bin/pip-audit -r requirements-hashed.txt --require-hashes --disable-pip

licences: $(TOOLS)/bin/python $(VENV)/.app  ## the licence of everything that is installed
	$(TOOLS)/bin/pip-licenses --python=$(BIN)/python --order=license

$(TOOLS)/bin/python:
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet --disable-pip-version-check pip-tools==7.6.2 pip-audit==2.10.1 pip-licenses==5.5.5

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "llmval needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 …" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.app: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing into $(VENV): torch is a large download, and pip says nothing until it is done."
	$(PIP_INSTALL) -e '.[runners]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP_INSTALL) -e '.[runners,dev]'
	@touch $@ $(VENV)/.app

clean:
	rm -rf $(VENV) $(TOOLS) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
