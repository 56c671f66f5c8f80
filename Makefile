# Tandem's commands. `make up` and `make test` need Python 3.11 and make, and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: up down test check bench profile soak drill lock clean help

help:            ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: $(STAMP)     ## start everything, answer a first job, and print the addresses
	@$(BIN)/python -m ops.up

down: $(STAMP)   ## stop everything that `make up` started
	@$(BIN)/python -m ops.down

test: check      ## every test, on the real parts
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --ignore-glob='tests/test_drill_*'
	@$(BIN)/python -m pytest tests/test_drill_*.py  # these raise the CPU's load themselves, and have the machine to themselves

check: $(STAMP)  ## ruff, mypy --strict, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --config setup.cfg

bench: $(STAMP)  ## measure; writes ops/bench/RESULTS.md
	@$(BIN)/python -m ops.bench

profile: $(STAMP) ## where the processor time of submits, polls and jobs goes
	@$(BIN)/python -m ops.bench profile

soak: $(STAMP)   ## faults under load for half an hour, beside plain Celery; ends with the audit
	@$(BIN)/python -m ops.soak --minutes 30

drill: $(STAMP)  ## raise every signal for real and time what follows; writes ops/drill/RESULTS.md
	@$(BIN)/python -m ops.drill

lock: $(STAMP)   ## write requirements.lock anew from what is installed
	@$(BIN)/python -m ops.lock

clean:           ## remove the environment; var/, with your data, stays
	rm -rf $(VENV)

$(STAMP): requirements.lock setup.cfg
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11) and "Tandem needs Python 3.11 or later; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11 up")'
	@echo "[install] virtual environment in $(VENV)"
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "python3 -m venv failed; on Debian: apt-get install python3-venv"; exit 1; }
	@echo "[install] pinned dependencies (some hundred MB the first time)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@echo "[install] torch"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check torch==2.13.0
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	@touch $@
