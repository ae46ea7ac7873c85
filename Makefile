PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell find discrete_grad -name '*.py')

# one thread a test process: they run side by side, one a core
test: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto -m "not slow" tests --pyargs discrete_grad

# tests of many seconds each, and every notebook
test-slow: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto -m slow tests --pyargs discrete_grad

test-all: test test-slow

# the site, in docs/_build/html; its pages' examples run while it is built
docs: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/sphinx-build -W --keep-going docs docs/_build/html

# the oldest versions that setup.cfg allows, and the newest that PYTHON=... can have; each in an
# environment of its own. The newest torch from PyPI brings CUDA on Linux, gigabytes; it runs on CPUs
test-oldest: CONSTRAINTS := --constraint constraints-oldest.txt
test-newest: CONSTRAINTS :=
test-oldest test-newest:
	$(PYTHON) -m venv .venv-$@
	.venv-$@/bin/pip install --quiet ".[dev]" $(CONSTRAINTS)
	OMP_NUM_THREADS=1 .venv-$@/bin/pytest -n auto tests --pyargs discrete_grad -W default

release-check: $(VENV)/.installed
	.ci/release-check

demo: $(VENV)/.installed
	$(BIN)/discrete-grad demo

BENCHMARKS := gradients gradients_second blend polynomial indecater vae layers generation generation_methods generation_ablation generation_contexts ehrlich alignment hidden_cost tilt guidance molecules rl warm_start preferences estimators families sizes rules edits rounds pareto overheads

# every benchmark from end to end, small; the figures mean nothing
bench-quick: $(VENV)/.installed
	set -e; for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name --quick; done
	$(BIN)/python -m benchmarks.softened --rounds 2
	$(BIN)/python -m benchmarks.report --folder benchmarks/results/quick --pages

# which small bugs the tests notice: hours; it goes on where it was stopped.
# `make mutants ROOMS=rules SAMPLE=20` draws 20 of a room, and SEED=1 others
mutants: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.mutants $(if $(ROOMS),--rooms $(ROOMS)) \
	    $(if $(SAMPLE),--sample $(SAMPLE)) $(if $(SEED),--seed $(SEED))

# those of the lines that changed since a revision
mutants-changed: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.mutants --changed $(or $(SINCE),main) $(if $(ROOMS),--rooms $(ROOMS))

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# installs the built wheel, so that tests see what users get
$(VENV)/.installed: $(VENV)/.dependencies $(SOURCES)
	rm -rf build  # or modules deleted since would be built again
	$(BIN)/pip install --quiet --no-deps --force-reinstall .
	touch $@

$(VENV)/.dependencies: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info

.PHONY: bench-quick clean demo docs lint mutants mutants-changed release-check test test-all test-newest test-oldest test-slow
