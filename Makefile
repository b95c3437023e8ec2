# The two commands that matter: `make train` and `make test`. Everything they need is set up by themselves.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
ARGS ?=
# A run is bounded to 20 minutes of training unless ARGS says otherwise.
BUDGET := $(if $(findstring --time-budget,$(ARGS))$(findstring --resume-from-checkpoint,$(ARGS))$(findstring --epochs,$(ARGS))$(findstring --max-steps,$(ARGS)),,--time-budget 20m)

.PHONY: train test soak check bench setup setup-dev clean help

help:
	@echo "make train              set up, train for about 20 minutes, evaluate, export, report"
	@echo "make train ARGS='...'   the same with flags, e.g. ARGS='--cpu-only --time-budget 1h'"
	@echo "make test               the whole test suite"
	@echo "make soak               attacks on training alone, ten times as many: kills, power losses, damage, signals"
	@echo "make check              lint and type checks"
	@echo "make bench              our engine against TRL's, in turn; about half an hour; installs TRL"

train: setup
	@$(RUN) main_training.py $(BUDGET) $(ARGS)

# Two processes of one thread each: what the tests compute is small, and threads that wait for each other lose more than they gain.
test: setup-dev
	@OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadfile $(ARGS)

soak: setup-dev
	@OVERSEER_SOAK=10 $(RUN) -m pytest -s tests/attacks $(ARGS)

check: setup-dev
	@$(RUN) -m ruff check .
	@$(RUN) -m mypy

bench: $(VENV)/.ready-bench
	@$(RUN) benchmarks/engines.py $(ARGS)

setup: $(VENV)/.ready
setup-dev: $(VENV)/.ready-dev

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Overseer Training needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make train PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV) || { echo "cannot make a virtual environment; on Debian or Ubuntu: sudo apt install python3-venv"; exit 2; }

# torch comes first and alone: its plain package is the CPU build on a Mac, and on Linux the extra index has one without CUDA.
$(VENV)/.ready: pyproject.toml | $(VENV)/bin/python
	@echo "setting up $(VENV) (once, about a minute)"
	@$(RUN) tools/install.py
	@touch $@

$(VENV)/.ready-dev: pyproject.toml $(VENV)/.ready
	@$(RUN) tools/install.py --dev
	@touch $@

$(VENV)/.ready-bench: pyproject.toml $(VENV)/.ready
	@$(RUN) tools/install.py --bench
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
