# `make demo` and `make test` are all a newcomer needs; both make .venv from requirements.lock first.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
DXY := $(VENV)/bin/dxy
STAMP := $(VENV)/.installed

.PHONY: help install demo up demo-migration test test-deep bench soak lint audit format lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
		{ echo "error: $(PYTHON) must be Python 3.11, 3.12 or 3.13; set PYTHON=/path/to/python3.12" >&2; exit 2; }
	@echo "installing into $(VENV) (once)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PY) -m pip install -qq --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@$(PY) -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

install: $(STAMP) ## make .venv from requirements.lock, nothing else

demo: $(STAMP) ## the whole pipeline on an embedded database, with real rates; exits 0 only if healthy
	@$(DXY) demo

up: $(STAMP) ## Dagster UI and daemon on 127.0.0.1:3000 with a live simulated feed; Ctrl-C stops all
	@$(DXY) up

demo-migration: $(STAMP) ## the migration forward, back and forward again, in under a minute
	@$(DXY) demo-migration

test: $(STAMP) ## the whole test suite
	@$(PY) -m pytest -n 2 --dist worksteal -m "not deep" dxy_pipeline_tests

test-deep: $(STAMP) ## the long profiles: stateful migration, live-load oracle, kill matrix, soak
	@$(PY) -m pytest -m deep --timeout 3600 dxy_pipeline_tests

bench: $(STAMP) ## measure every bound as a ratio; writes build/bench.json
	@$(PY) -m dxy_pipeline_tests.benchmarks

soak: $(STAMP) ## ten market days at accelerated time while everything is killed
	@$(PY) -m dxy_pipeline_tests.soak

lint: $(STAMP) ## style, types, layers, dependencies, SQL, definitions, known vulnerabilities
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ty check dxy_pipeline
	@$(VENV)/bin/lint-imports
	@$(VENV)/bin/deptry dxy_pipeline
	@$(PY) -m dxy_pipeline_tests.lint_sql
	@$(VENV)/bin/dagster definitions validate -m dxy_pipeline.definitions --log-level error
	@$(MAKE) --no-print-directory audit

audit: $(STAMP) ## known vulnerabilities in the locked packages
	@$(PY) -m dxy_pipeline_tests.audit

format: $(STAMP) ## format the code
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

lock: ## renew requirements.lock (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --group dev pyproject.toml -o requirements.lock

clean: ## remove what was built; data under var/ stays
	rm -rf $(VENV) build .pytest_cache .ruff_cache .hypothesis .import_linter_cache
