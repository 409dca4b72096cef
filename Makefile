# Everything is driven from here. `make` runs the demo; `make help` lists the targets.
#
#   make reward CONFIG=configs/custom.yaml              another experiment
#   make ppo ARGS="ppo.kl_coef=0.1 seed=3"              override settings
#   make ppo FRESH=1                                    start anew, leaving interrupted work behind
#   make label CONFIG=configs/people.yaml               people choose, on a page
#   make ppo LAUNCH="accelerate launch --config_file configs/accelerate/gpu.yaml"

CONFIG ?= configs/demo.yaml
ARGS   ?=
FRESH  ?=
TERMINAL ?=
PUBLISH ?=
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
THREADS ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 1)
# Without LAUNCH the stages run on the CPU, in processes forked from one: what `accelerate launch --config_file
# configs/accelerate/cpu.yaml` sets, without starting it and importing torch for each. On macOS none can be forked.
LAUNCH ?= $(if $(filter Darwin,$(shell uname)),$(ON_CPU) python)
ON_CPU := env OMP_NUM_THREADS=$(THREADS) ACCELERATE_USE_CPU=true
STAGES := sft collect reward ppo evaluate report
READY  := $(VENV)/.ready

export PATH := $(CURDIR)/$(BIN):$(PATH)
export HF_HUB_DISABLE_TELEMETRY ?= 1
export TRL_EXPERIMENTAL_SILENCE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.DEFAULT_GOAL := demo
.PHONY: help setup demo seeds sweep dashboard table data label check test test-slow generated bench clean $(STAGES)

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'
	@echo; echo "  CONFIG=$(CONFIG)  ARGS='section.key=value ...'  FRESH=1 (do not resume)"
	@echo "  LAUNCH='accelerate launch --config_file configs/accelerate/gpu.yaml' (how a stage is launched, other than on the CPU)"

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

demo: report ## sft, collect, reward, ppo, evaluate and report on CONFIG; what `make` does

# With LAUNCH a stage asks first whether its work is done, without loading torch, and only then is launched.
# 3 is the stage's own word for "there is work".
GIVEN = --config $(CONFIG) $(if $(filter-out 0,$(FRESH)),--fresh) $(ARGS)
ifeq ($(strip $(LAUNCH)),)
up_to = @$(ON_CPU) python -m pipeline.run $(1) $(GIVEN)
else
define up_to
	@for stage in $(1); do \
	  python -m pipeline.$$stage --check $(GIVEN); status=$$?; \
	  if [ $$status -eq 3 ]; then $(LAUNCH) -m pipeline.$$stage $(GIVEN); status=$$?; fi; \
	  [ $$status -eq 0 ] || exit $$status; \
	done
endef
endif

sft: $(READY) ## a base model, from scratch or adapted with LoRA
	$(call up_to,sft)
collect: $(READY) ## comparisons, and an annotator's choices
	$(call up_to,sft collect)
label: sft ## the page people label on; TERMINAL=1 labels here, PUBLISH=1 only publishes
	@python -m pipeline.label --check $(GIVEN); status=$$?; \
	if [ $$status -eq 3 ]; then $(or $(LAUNCH),$(ON_CPU) python) -m pipeline.collect $(GIVEN) collect.serve=false; \
	elif [ $$status -ne 0 ]; then exit $$status; fi
	@python -m pipeline.label $(if $(filter-out 0,$(PUBLISH)),--publish) \
	  $(if $(filter-out 0,$(TERMINAL)),--terminal=$(if $(filter-out 1,$(TERMINAL)),$(TERMINAL))) $(GIVEN)
reward: $(READY) ## a reward model on the preferences
	$(call up_to,sft collect reward)
ppo: $(READY) ## the policy: PPO with LoRA against the reward model
	$(call up_to,sft collect reward ppo)
evaluate: $(READY) ## base against policy on held-out prompts
	$(call up_to,sft collect reward ppo evaluate)
RUNS ?=
OUT  ?= build/comparison.html
ifeq ($(strip $(RUNS)),)
report: $(READY) ## report.html and its pictures; RUNS="demo-policy@v1 demo-policy@v2" compares runs
	$(call up_to,$(STAGES))
else
report: $(READY)
	@python -m pipeline.report --runs $(RUNS) --out $(OUT)
endif

SEEDS ?= 0 1 2
seeds: $(READY) ## the whole pipeline once per seed: make seeds SEEDS="0 1 2"
	@for seed in $(SEEDS); do $(MAKE) --no-print-directory demo ARGS="$(ARGS) seed=$$seed" || exit $$?; done

GRID ?=
JOBS ?= 1
ONLY ?=
sweep: $(READY) ## seeds and settings, with intervals: make sweep SEEDS=5 GRID=ppo.kl_coef=0.02,0.05,0.1
	@$(if $(LAUNCH),,$(ON_CPU)) python -m pipeline.sweep --config $(CONFIG) --seeds "$(SEEDS)" \
	  $(foreach g,$(GRID),--grid '$(g)') --jobs $(JOBS) $(if $(ONLY),--only $(ONLY)) \
	  $(if $(LAUNCH),--launch '$(LAUNCH)') $(ARGS)

dashboard: $(READY) ## trackio's curves of CONFIG's runs in the browser, on this machine only
	@project=$$(python -c 'import sys; from pipeline.workflow.config import load_config; print(load_config(sys.argv[1]).name)' \
	  $(CONFIG)) && GRADIO_SHARE=false GRADIO_MCP_SERVER=False trackio show --project "$$project" --host 127.0.0.1

table: $(READY) ## print the results table; README=README.md writes it there
	@python -m pipeline.report --table $(if $(README),--readme $(README))

data: $(READY) ## look at versions: make data ARGS="show demo-policy"
	@python -m pipeline data $(if $(ARGS),$(ARGS),list)

check: $(READY) ## what CI checks: format, lint, types, floors
	@ruff format --check -q . && ruff check -q . && echo "ruff: ok"
	@basedpyright --level error
	@lint-imports --no-cache > .import-linter.log || { cat .import-linter.log; exit 1; }
	@tail -1 .import-linter.log

# Three workers for two cores: a third of the time a test waits for a browser, a server or a disk.
test: $(READY) ## the fast tests, no network
	@OMP_NUM_THREADS=1 python -m pytest -n 3 --dist loadfile

test-slow: $(READY) ## learning over seeds, kill and resume, end to end (an hour)
	@python -m pytest -m slow

generated: $(READY) ## TRL's keys, the tables of keys in docs/ and configs/schema.json, from the code
	@python -m tests.generated

export STAGE QUICK ROUNDS WRITE
bench: $(READY) ## every stage against the library's own call; STAGE=reward for one, QUICK=1 for smaller shapes
	@python -m tests.bench

clean: ## remove the environment and caches; never touches data/
	rm -rf $(VENV) .import-linter.log build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache
	find pipeline tests -name __pycache__ -type d -prune -exec rm -rf {} +
