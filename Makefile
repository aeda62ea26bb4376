# What a person or a machine does with a checkout. `make` alone lists it.
# Everything lives in .venv; nothing is installed again while pyproject.toml and constraints.txt stay as they are.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

VENV ?= .venv
BIN := $(VENV)/bin
# The first Python on the path that is new enough; say PYTHON=/path/to/python3.12 to choose another.
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
  $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && command -v $$name && break; done)
# What to show: spa, single particles; tomo, tilt series; xct, live X-ray tomography.
DEMO ?= spa
DEMO_OUT ?= demo-output
DEMO_OPTIONS ?=
PYTEST_OPTIONS ?=
BENCH_OPTIONS ?=
BENCHMARKS ?= $(wildcard benchmarks/*.py)

INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt
export PIP_NO_INPUT := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.PHONY: help
help: ## List what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

# ---- the environment ----

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
	  echo "tomofly needs Python 3.11 or newer, and there is none on the path. Install one, or say where: make PYTHON=/path/to/python3.12" >&2; exit 1; fi
	@if ! "$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null; then $(call apt_install,python3-venv); fi
	@if ! "$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null; then \
	  echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: sudo apt-get install python3-venv" >&2; exit 1; fi
	@echo "Making $(VENV) with $$("$(PYTHON)" --version)"
	@"$(PYTHON)" -m venv --clear $(VENV)

$(VENV)/.ready: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing tomofly into $(VENV)"
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.ready-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing tomofly with what tests and documentation need into $(VENV)"
	@$(INSTALL) --editable '.[dev,docs]'
	@touch $@ $(VENV)/.ready

# The first use of a kernel compiles it; a small session does that once, before anybody waits for it.
WARM_spa := demo spa --items 1 --detector 512x512
WARM_tomo := demo tomo --items 1 --detector 320x384 --pace 0
WARM_xct := demo xct --size 128 --seconds 2

$(VENV)/.compiled-%: $(VENV)/.ready
	@echo "Compiling the numerical kernels of $*, once: a minute or two"
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	  { $(BIN)/tomofly $(WARM_$*) --headless --home "$$folder/home" --out "$$folder/$*" >"$$folder/log" 2>&1 \
	    || { cat "$$folder/log" >&2; exit 1; }; }
	@touch $@

.PHONY: install
install: $(VENV)/.compiled-spa $(VENV)/.compiled-tomo $(VENV)/.compiled-xct ## Install tomofly into .venv

.PHONY: install-dev
install-dev: $(VENV)/.ready-dev ## The same, with what tests and documentation need

# $(call apt_install,packages): install them where apt is here and ours to use; never fails, never asks.
# The package lists are fetched at most once for each run of make.
define apt_install
if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
  lists=/tmp/tomofly-apt-lists-$$PPID; \
  if [ ! -e "$$lists" ]; then echo "Fetching the lists of system packages"; timeout 120 apt-get update -qq </dev/null && touch "$$lists"; fi; \
  echo "Installing $(1)"; \
  DEBIAN_FRONTEND=noninteractive timeout 600 apt-get install -y -qq --no-install-recommends $(1) </dev/null >/dev/null \
    || echo "$(1) could not be installed" >&2; \
fi
endef

.PHONY: system-packages
system-packages:
	@command -v relion_refine >/dev/null || { $(call apt_install,relion); }
	@ls /usr/lib/postgresql/*/bin/pg_ctl >/dev/null 2>&1 || { $(call apt_install,postgresql); }
	@rm -f /tmp/tomofly-apt-lists-$$PPID
	@command -v relion_refine >/dev/null || echo "SKIPPING the tests marked 'relion': RELION is not installed (Debian's package relion)"
	@ls /usr/lib/postgresql/*/bin/pg_ctl >/dev/null 2>&1 || echo "SKIPPING the tests marked 'postgres': PostgreSQL is not installed (Debian's package postgresql)"

# ---- what it is for ----

.PHONY: demo
demo: $(VENV)/.compiled-$(DEMO) ## Show a simulated session from first frame to export; DEMO=tomo: tilt series, DEMO=xct: X-rays
	@mkdir -p $(DEMO_OUT)
	@cd $(DEMO_OUT) && TOMOFLY_HOME="$${TOMOFLY_HOME:-$$PWD/home}" "$(abspath $(BIN))/tomofly" demo $(DEMO) $(DEMO_OPTIONS)
	@echo
	@echo "It is all below $(DEMO_OUT)/. To ask more about the session, first say where it is known, and where tomofly is:"
	@echo "  export TOMOFLY_HOME=$${TOMOFLY_HOME:-$(abspath $(DEMO_OUT))/home} PATH=$(abspath $(BIN)):\$$PATH"
	@if [ "$(DEMO)" != xct ]; then echo "With your own movies: $(BIN)/tomofly run $(DEMO) --source '/data/**/*.tiff' --out my-session"; fi
	@if [ "$(DEMO)" = spa ]; then echo "Tilt series: make demo DEMO=tomo. X-rays at a beamline: make demo DEMO=xct"; fi

.PHONY: check
check: $(VENV)/.ready-dev ## Style, types and layers alone
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: test
test: $(VENV)/.ready-dev system-packages check ## All checks and the whole test suite
	@failed=0; \
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not epics" $(PYTEST_OPTIONS) || failed=1; \
	echo "And now the tests that keep to the clock"; \
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m epics $(PYTEST_OPTIONS) || failed=1; \
	exit $$failed

.PHONY: docs
docs: $(VENV)/.ready-dev ## The documentation as HTML, in docs/_build/html
	@$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

.PHONY: bench
bench: $(VENV)/.ready-dev ## All benchmarks, one after the other; their output goes to build/benchmarks
	@mkdir -p build/benchmarks
	@failed=0; for script in $(BENCHMARKS); do \
	  name=$$(basename $$script .py); echo "== $$name"; \
	  $(BIN)/python $$script $(BENCH_OPTIONS) 2>&1 | tee build/benchmarks/$$name.txt; \
	  [ $${PIPESTATUS[0]} = 0 ] || failed=1; \
	done; exit $$failed

.PHONY: clean
clean: ## Remove what was made, except .venv
	rm -rf build dist docs/_build docs/reference/generated $(DEMO_OUT)
