# Every target prints what it does. `make help` lists them.

PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.installed
ADDRESS ?= 127.0.0.1:8000
# So many processes test, each on a server of its own.
JOBS ?= 2
SAY := @printf '\033[1m%s\033[0m\n'

.DEFAULT_GOAL := help
.PHONY: help venv demo run test browser pictures bench chaos docs lint format types layers build clean

help: ## list the targets
	@echo "make TARGET, where TARGET is one of:"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 12
	@echo "PYTHON=python3.13 and VENV=folder choose another interpreter and place for the environment."

venv: $(READY) ## make the virtual environment and install everything for development

$(READY): setup.cfg pyproject.toml
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(SAY) "Installing djtasks for development into $(VENV), with $$($(PY) --version)"
	@$(PY) -m pip install --quiet --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(READY) ## the whole trip on real input (DIR=folder scans it, CHAOS=1 kills the worker mid-way, KEEP=1 stays)
	$(SAY) "Taking a census of Python source with a real site and a real worker"
	@$(PY) manage.py demo $${DIR:+--dir "$$DIR"} $(if $(filter-out 0 no,$(CHAOS)),--chaos) $(if $(filter-out 0 no,$(KEEP)),--keep)

run: $(READY) ## the demo site and a worker with a beat, until Ctrl-C (ADDRESS=127.0.0.1:8000)
	$(SAY) "Running the site at http://$(ADDRESS)/ and a worker"
	@$(PY) manage.py migrate --verbosity 0
	@$(PY) manage.py runworker -B --loglevel INFO & worker=$$!; \
	$(PY) manage.py runserver --noreload $(ADDRESS) & site=$$!; \
	trap 'kill -TERM $$site $$worker 2>/dev/null; wait' EXIT; trap 'exit 130' INT; trap 'exit 143' TERM; \
	wait $$site

test: $(READY) browser ## the tests, on every PostgreSQL found (SERVERS="embedded" chooses, ARGS="-k name" goes to pytest, JOBS=0 for one process)
	@servers="$(SERVERS)"; jobs=$(JOBS); \
	if [ -n "$$DATABASE_URL" ]; then servers=DATABASE_URL; jobs=0; \
	elif [ -z "$$servers" ]; then servers=$$($(PY) -m tests.servers); fi; \
	printf '\033[1mRunning the tests on: %s\033[0m\n' "$$(echo $$servers)"; \
	failed=; for server in $$servers; do \
		[ "$$server" = DATABASE_URL ] || export DJTASKS_TEST_SERVER="$$server"; \
		$(PY) -m pytest --numprocesses $$jobs --dist loadfile $(ARGS) || failed="$$failed $$server"; \
	done; \
	if [ -n "$$failed" ]; then echo "The tests failed on:$$failed"; exit 1; fi

# Packages of the system are installed for root only, and only these: on a machine of one's own it is one line.
browser: ## chromium, libfaketime and pgbouncer for the tests, installed where that may be done
	@missing=; \
	[ -n "$$CHROMIUM" ] || command -v chromium >/dev/null || command -v chromium-browser >/dev/null || missing=chromium; \
	[ -n "$$(ls /usr/lib*/faketime/libfaketime.so.1 /usr/lib*/*/faketime/libfaketime.so.1 2>/dev/null)" ] || \
		missing="$$missing libfaketime"; \
	PATH="$$PATH:/usr/sbin:/usr/local/sbin" command -v pgbouncer >/dev/null || missing="$$missing pgbouncer"; \
	if [ -n "$$missing" ] && [ -w / ] && command -v apt-get >/dev/null; then \
		printf '\033[1mInstalling for the tests: %s\033[0m\n' "$$missing"; \
		export DEBIAN_FRONTEND=noninteractive; \
		for attempt in 1 2; do \
			apt-get install -y -qq --no-install-recommends $$missing >/dev/null 2>&1 && exit 0; \
			apt-get update -qq >/dev/null 2>&1 || true; \
		done; \
	fi; \
	for each in $$missing; do \
		printf '\033[1;31m=== NO %s: the tests that need it WILL BE SKIPPED. Install it: apt-get install %s ===\033[0m\n' \
			"$$each" "$$each"; \
	done

pictures: $(READY) browser ## draw the pictures of the documentation anew (docs/images)
	$(SAY) "Drawing the pictures in docs/images with a real browser"
	@DJTASKS_SCREENSHOTS=docs/images $(PY) -m pytest -q tests/browser $(ARGS)

bench: $(READY) ## how fast it is, and what it costs (AGAINST=celery compares, ARGS="--quick --sql" goes along)
	$(SAY) "Measuring djtasks on a PostgreSQL of its own$(if $(AGAINST), against $(AGAINST))"
	@$(PY) -m benchmarks $(if $(AGAINST),--against $(AGAINST)) $(ARGS)

chaos: $(READY) ## break everything for a quarter of an hour, and audit every task (ARGS="--pool all --middle")
	$(SAY) "Breaking workers, connections and servers, and auditing every task"
	@$(PY) -m tests.chaos $(if $(filter --short --middle --long,$(ARGS)),,--long) $(ARGS)

docs: $(READY) ## the documentation as a site, in build/docs; a warning is an error
	@$(PY) -c 'import sphinx, myst_parser, furo' 2>/dev/null || \
		$(PY) -m pip install --quiet --quiet --disable-pip-version-check --editable '.[docs]'
	$(SAY) "Building the documentation with Sphinx"
	@$(PY) -m sphinx -q -W --keep-going -b html docs build/docs
	@echo "build/docs/index.html"

lint: $(READY) ## ruff: rules and format
	$(SAY) "Checking rules and format with ruff"
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .

format: $(READY) ## let ruff format and repair what it can
	$(SAY) "Formatting with ruff"
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

types: $(READY) ## mypy --strict
	$(SAY) "Checking types with mypy"
	@$(VENV)/bin/mypy --strict djtasks testproject benchmarks

layers: $(READY) ## import-linter: imports point down the floors
	$(SAY) "Checking the floors with import-linter"
	@$(VENV)/bin/lint-imports --no-logo

build: $(READY) ## the wheel and the source archive, in dist/
	$(SAY) "Building the wheel and the source archive"
	@rm -rf build dist
	@$(PY) -m build --no-isolation --outdir dist . >build.log 2>&1 || { cat build.log; exit 1; }
	@rm -rf build build.log
	@ls dist

clean: ## remove what was built, caches and the embedded database; the virtual environment stays
	$(SAY) "Removing build products, caches and the embedded database"
	@rm -rf build dist build.log *.egg-info .postgres .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
