# Everything happens in .venv; nothing needs to be installed by hand but Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.DEFAULT_GOAL := help

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | sort

.venv/installed: pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; \
	    sys.exit(None if (3, 11) <= v <= (3, 13) else "Headrace needs Python 3.11 to 3.13, got %d.%d: make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[dev]'
	@touch $@

setup: .venv/installed ## make .venv with everything in it

demo: setup ## watch the loop turn on a real stream; ARGS=--fast for the short form
	$(BIN)/headrace demo $(ARGS)

test: setup ## run all tests; ARGS='-k name' for some
	$(BIN)/python -m pytest $(ARGS)

test-kafka: setup ## run the tests of Kafka on brokers of yours: KAFKA=host:port
	HEADRACE_TEST_KAFKA=$(or $(KAFKA),$(error KAFKA=host:port says where they are)) \
	    $(BIN)/python -m pytest tests/kafka tests/doctor/test_brokers.py $(ARGS)

lint: setup ## ruff, mypy --strict, sqlfluff
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/sqlfluff lint --processes 2 dbt_project/models dbt_project/tests sql/postgres sql/queries

# Evidently is only compared with; where it can't be had, its column is left out.
.venv/bench: .venv/installed
	-$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[bench]' \
	    && touch $@

bench: setup .venv/bench ## measure what the README states; ARGS='views --quick' for one, small
	$(BIN)/python -m benchmarks $(ARGS)

lock: ## pin what is installed now
	$(BIN)/pip freeze --exclude-editable | sed -E 's/ @ .*//; s/\+cpu$$//' | grep -v '^-e' > requirements.lock

clean: ## remove what was made here, data of .headrace included
	rm -rf .venv .headrace .mypy_cache .ruff_cache .pytest_cache .hypothesis

.PHONY: help setup demo test test-kafka lint bench lock clean
