# The usual commands; the README has each without make. Everything is installed into .venv, once:
# stamp files in it tell what is there. `make test` makes a .venv-3.x for every other Python.

SCENARIO ?= booking
PYTHON := .venv/bin/python
INSTALL := -m pip --quiet --disable-pip-version-check install
VERSIONS := 3.10 3.11 3.12 3.13
TIMEOUT := $(shell which timeout 2>/dev/null)
PYTEST = $(if $(TIMEOUT),timeout 1200) $(PYTHON) -m pytest

# Succeeds for a Python of 3.10 or later that can make an environment. A command may be on the PATH
# and do neither: pyenv has shims of versions that are switched off, Debian packs venv apart. (Behind
# such a shim, `make test` finds the version itself.)
USABLE := -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null

.PHONY: help demo run soak test bench lint clean venv

help:
	@echo 'make demo    hear a phone call through the real app (SCENARIO=barge-in and others; SCENARIO=list)'
	@echo 'make run     serve, with the settings in .env'
	@echo 'make test    run the tests on every Python from 3.10 to 3.13 that is here'
	@echo 'make bench   measure how many calls a core carries (BENCH=--quick; BENCH=--help lists all)'
	@echo 'make soak    place 1,000 calls in quick succession and show that nothing is left behind'
	@echo 'make lint    check style, types and size'
	@echo 'make clean   remove what the others made'

demo: .venv/.demo
	@$(PYTHON) -m tools.demo $(SCENARIO)

run: .venv/.app
	@$(PYTHON) app.py

soak: .venv/.dev
	@$(if $(TIMEOUT),timeout 900) $(PYTHON) -m tools.soak $(SOAK)

lint: .venv/.dev
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy
	$(PYTHON) -m tests.test_size

test: .venv/.dev
	$(PYTEST)
	@own=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	passed="$$own"; failed=; absent=; \
	for version in $(VERSIONS); do \
		if [ $$version = $$own ]; then continue; fi; \
		command=$$(command -v python$$version); pyenv=$$(dirname "$$command")/../versions; \
		python=$$(for each in $$command $$pyenv/$$version.*/bin/python; do \
			if $$each $(USABLE); then echo $$each; break; fi; done); \
		if [ -z "$$python" ]; then absent="$$absent $$version"; continue; fi; \
		echo; echo "Testing with Python $$version"; \
		if $(MAKE) --no-print-directory test-$$version BASE=$$python; \
		then passed="$$passed $$version"; else failed="$$failed $$version"; fi; \
	done; \
	echo; echo "Tests passed on Python: $$passed"; \
	if [ "$$absent" ]; then echo "Not found on this machine:$$absent"; fi; \
	if [ "$$failed" ]; then echo "FAILED on Python:$$failed"; exit 1; fi

test-%: PYTHON = .venv-$*/bin/python
test-%: .venv-%/.dev
	@$(PYTEST) -q

bench: .venv/.app
	@$(PYTHON) -m tools.bench $(BENCH)

clean:
	rm -rf .venv .venv-3.* .mypy_cache .ruff_cache .pytest_cache .hypothesis call*.wav call*.txt bench.json
	find . -name __pycache__ -prune -exec rm -rf {} +

# --- environments -----------------------------------------------------------------------------

venv: .venv/.dev

.venv/bin/python:
	@for python in python3.13 python3.12 python3.11 python3.10 python3; do \
		if $$python $(USABLE); then \
			echo "Making .venv with $$($$python --version)"; \
			exec $$python -m venv --clear .venv; \
		fi; \
	done; \
	echo 'There is no Python 3.10 or later that can make an environment.' >&2; \
	echo 'On Debian and Ubuntu: apt install python3-venv' >&2; exit 1

.venv/.app: requirements.txt | .venv/bin/python
	@echo 'Installing what the app needs'
	@$(PYTHON) $(INSTALL) -r requirements.txt
	@touch $@

.venv/.dev: requirements-dev.txt .venv/.app
	@echo 'Installing what the tests need'
	@$(PYTHON) $(INSTALL) -r requirements-dev.txt
	@touch $@

.venv/.demo: requirements-demo.txt .venv/.app
	@echo 'Installing real ears and a real mouth'
	@if $(PYTHON) $(INSTALL) --only-binary :all: -r requirements-demo.txt; then touch $@; \
	else echo 'They cannot be installed here. The demo goes on without, and says what it does instead.'; fi

.venv-%/.dev: requirements-dev.txt requirements.txt
	@$(BASE) -m venv --clear .venv-$*
	@.venv-$*/bin/python $(INSTALL) -r requirements-dev.txt
	@touch $@
.PRECIOUS: .venv-%/.dev
