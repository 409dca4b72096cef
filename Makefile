# The targets for experiments are in the file included below, which `rlhf-pipeline init` gives to projects of their own;
# those for work on this repository are here. `make` runs the demo; `make help` lists the targets.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

include pipeline/project/files/Makefile

.PHONY: setup check test test-slow generated bench clean

setup: $(READY) ## install into .venv (done by itself before anything else)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $$($(PYTHON) --version) is too old: Python 3.11 or newer is needed. Run: make PYTHON=python3.11" >&2; exit 2; }
	@echo "setting up $(VENV) (torch and friends, about a gigabyte; once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@# torch first and by its exact version: a plain "torch" pulls gigabytes of CUDA.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

check: $(READY) ## what CI checks: format, lint, types, floors
	@ruff format --check -q . && ruff check -q . && echo "ruff: ok"
	@basedpyright --level error
	@lint-imports --no-cache > .import-linter.log || { cat .import-linter.log; exit 1; }
	@tail -1 .import-linter.log

# Three workers for two cores: a third of the time a test waits for a browser, a server or a disk.
test: $(READY) ## the fast tests, no network
	@OMP_NUM_THREADS=1 python -m pytest -n 3 --dist loadfile

test-slow: $(READY) ## learning over seeds, kill and resume, end to end (an hour)
	@python -m pytest -m "slow or thorough"

generated: $(READY) ## TRL's keys, the tables of keys in docs/ and configs/schema.json, from the code
	@python -m tests.generated

export STAGE PART QUICK ROUNDS WRITE
bench: $(READY) ## every stage against the library's own call; STAGE=reward for one, QUICK=1 for smaller shapes
	@python -m tests.bench

clean: ## remove the environment and caches; never touches data/
	rm -rf $(VENV) .import-linter.log build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache
	find pipeline tests -name __pycache__ -type d -prune -exec rm -rf {} +
