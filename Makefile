# The usual commands. Everything is installed into .venv, once:
# stamp files in it tell what is there. `make test-all` makes a .venv-3.x for every other Python.

SCENARIO ?= booking
PYTHON := .venv/bin/python
INSTALL := -m pip --quiet --disable-pip-version-check install
unexport PYTHONDONTWRITEBYTECODE  # else every worker compiles all the tests, each time
TIMED := $(if $(shell which timeout 2>/dev/null),timeout 1200)
PYTEST = $(TIMED) $(PYTHON) -m pytest

# The other Pythons that are here, each with the whole fast tier; several at once on many cores
OTHERS = $(shell $(PYTHON) -m tools.pythons)
AT_ONCE = $(shell $(PYTHON) -c 'import os; print(max(1, (os.cpu_count() or 1) // 4))')

# Succeeds for a Python of 3.10 or later that can make an environment. A command may be on the PATH
# and do neither: pyenv has shims of versions that are switched off, Debian packs venv apart.
USABLE := -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null

.PHONY: help demo phone run chat soak stress test test-all test-rest test-browser bench lint clean venv

help:
	@echo 'make demo    hear a phone call through the real app (SCENARIO=list; WATCH=1: on a page)'
	@echo 'make phone   talk to the agent in your browser, through the real phone path (LIVE=1, APP=https://host)'
	@echo 'make run     serve, with the settings in .env'
	@echo 'make chat    type to your workflow instead of calling it'
	@echo 'make test    run the fast tests, in about two minutes'
	@echo 'make test-all  run all tests, soak and benchmark, on every Python from 3.10 to 3.13 that is here'
	@echo 'make bench   measure how many calls a core carries (BENCH=--quick; BENCH=--help lists all)'
	@echo 'make soak    place 1,000 calls in quick succession and show that nothing is left behind'
	@echo 'make stress  run the fast tests ten times beside busy loops, and once standing still (STRESS=3)'
	@echo 'make lint    check style, types and clarity'
	@echo 'make clean   remove what the others made'

demo: .venv/.demo
	@$(PYTHON) -m tools.demo $(SCENARIO) $(if $(WATCH),--watch)

# The models of ears and mouth aren't needed where the real OpenAI listens and speaks
phone: $(if $(LIVE)$(APP),.venv/.app,.venv/.demo)
	@$(PYTHON) -m tools.phone $(if $(LIVE),--live) $(if $(APP),--app $(APP)) $(PHONE)

run: .venv/.app
	@$(PYTHON) app.py

chat: .venv/.app
	@$(PYTHON) -m tools.chat

soak: .venv/.dev
	@$(TIMED) $(PYTHON) -m tools.soak $(SOAK)

stress: .venv/.dev
	@$(PYTHON) -m tools.stress $(STRESS)

lint: .venv/.dev
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy
	$(PYTHON) -m pytest -q -n 0 tests/test_clarity.py tests/test_names.py

# --- three tiers of tests: see tests/README.md -------------------------------------------------

test: .venv/.dev
	$(PYTEST) --tier fast --durations 10

test-all: test test-rest test-browser

# What `make test-all` adds to `make test`
test-rest: .venv/.dev
	$(PYTEST) --tier rest --durations 10 --ignore tests/test_phone.py
	$(TIMED) $(PYTHON) -m tools.soak $(SOAK)
	$(TIMED) $(PYTHON) -m tools.bench --quick || [ $$? -eq 3 ]  # 3: this machine is too busy
	@$(MAKE) --no-print-directory --jobs $(AT_ONCE) $(addprefix test-,$(OTHERS))

# Sound in a browser plays in real time: one test after another, with the machine to itself. Where a
# stall of the machine cost one its sound or its time, it must pass by itself.
test-browser: .venv/.dev .venv/.demo
	$(PYTEST) -n 0 --durations 10 tests/test_phone.py || \
		$(PYTEST) -n 0 --last-failed --last-failed-no-failures none tests/test_phone.py

test-%: .venv-%/.dev
	$(TIMED) .venv-$*/bin/python -m pytest -q --tier fast
	@echo "Tests passed on Python $*"

bench: .venv/.app
	@$(PYTHON) -m tools.bench $(BENCH)

# What the demo writes: the files of each scenario, by name, since an owner's may begin alike
CALLS := call $(addprefix call-,barge-in false-alarm goes-on slow keypad transfer silence trouble time-is-up)

clean:
	rm -rf .venv .venv-3.* .mypy_cache .ruff_cache .pytest_cache .hypothesis bench.json
	rm -f $(foreach kind,wav txt png,$(addsuffix .$(kind),$(CALLS)))
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

.venv/.dev: requirements-dev.txt requirements-examples.txt .venv/.app
	@echo 'Installing what the tests need'
	@$(PYTHON) $(INSTALL) -r requirements-dev.txt
	@touch $@

.venv/.demo: requirements-demo.txt .venv/.app
	@echo 'Installing real ears and a real mouth'
	@if $(PYTHON) $(INSTALL) --only-binary :all: -r requirements-demo.txt; then touch $@; \
	else echo 'They cannot be installed here. The demo goes on without, and says what it does instead.'; fi

.venv-%/.dev: requirements-dev.txt requirements-examples.txt requirements.txt
	@$$($(PYTHON) -m tools.pythons $*) -m venv --clear .venv-$*
	@.venv-$*/bin/python $(INSTALL) -r requirements-dev.txt
	@touch $@
.PRECIOUS: .venv-%/.dev
