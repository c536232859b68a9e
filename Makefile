# Everything happens in .venv; nothing needs to be installed by hand but Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(os.cpu_count() + 1, 4))')

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

# A file's tests stay together, on one process more than there are cores: some of them wait. The
# files that take longest begin (tests/support/longest_first.py).
test: setup .venv/flower/installed ## run all tests; ARGS='-k name' for some
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

flower: .venv/flower/installed ## Flower in an environment of its own: with dbt it can't share one

# Where it can't be had, the tests of federated averaging are left out.
.venv/flower/installed: pyproject.toml .venv/installed
	-$(PYTHON) -m venv .venv/flower && .venv/flower/bin/pip install --quiet --disable-pip-version-check \
	    -e '.[federated]' && touch $@

check: setup ## for while you work, under two minutes: ruff, mypy, the quick tests
	@$(MAKE) --no-print-directory --jobs=2 --output-sync ruff mypy quick

# No training, no brokers, no processes; of the views those that all others read.
QUICK := control deploy sql/test_limits.py sql/test_queries.py \
    dbt_project/test_statistics.py dbt_project/test_drift_statistics.py dbt_project/test_views.py \
    docs/test_documented.py docs/test_schemas.py docs/test_views_documented.py \
    events/test_contract.py events/test_log.py events/kafka/test_messages.py \
    gateway/test_http.py operate/test_doctor.py \
    risingwave/test_ddl_rules.py risingwave/test_number_text.py risingwave/test_dialect_standin.py \
    trainer/test_gate.py trainer/test_paired.py trainer/test_split.py trainer/test_suspicion.py \
    test_cli.py test_client.py test_extras.py test_settings.py
quick: setup
	$(BIN)/python -m pytest -q -n 2 --dist loadfile $(addprefix tests/,$(QUICK)) \
	    --deselect tests/test_cli.py::test_a_migration_says_how_far_it_is \
	    --deselect tests/dbt_project/test_views.py::test_order_changes_nothing $(ARGS)

# Both servers must reach each other's ports, as RisingWave reads the topics by itself.
test-risingwave: setup ## run on a RisingWave and brokers: RISINGWAVE='host=... port=4566 user=root dbname=dev' KAFKA=host:port
	@test -n '$(RISINGWAVE)' -a -n '$(KAFKA)' || { echo "set RISINGWAVE to a connection string and KAFKA to host:port" >&2; exit 1; }
	@HEADRACE_TEST_RISINGWAVE='$(RISINGWAVE)' HEADRACE_TEST_KAFKA='$(KAFKA)' \
	    $(BIN)/python -m pytest -s tests/risingwave/test_real_parity.py tests/risingwave/test_real.py $(ARGS)

test-kafka: setup ## run the tests of Kafka on brokers of yours: KAFKA=host:port
	HEADRACE_TEST_KAFKA=$(or $(KAFKA),$(error KAFKA=host:port says where they are)) \
	    $(BIN)/python -m pytest tests/events/kafka tests/operate/test_doctor_kafka.py $(ARGS)

lint: setup ## ruff, mypy --strict, sqlfluff, side by side
	@$(MAKE) --no-print-directory --jobs=2 --output-sync ruff mypy sqlfluff

ruff:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

mypy:
	$(BIN)/mypy

sqlfluff:
	$(BIN)/sqlfluff lint dbt_project/models dbt_project/tests sql/postgres sql/queries

hooks: setup ## have git run ruff, mypy and sqlfluff before each commit
	$(BIN)/pre-commit install

# Evidently is only compared with; where it can't be had, its column is left out.
.venv/bench: .venv/installed
	-$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[bench]' \
	    && touch $@

bench: setup .venv/bench ## measure what the README states; ARGS='views --quick' for one, small
	$(BIN)/python -m benchmarks $(ARGS)

# Outside of CI: it installs eight libraries in two environments of their own.
other-libraries: setup ## write the tables of docs/other-libraries.md anew
	$(BIN)/python -m benchmarks.other_libraries

lock: ## pin what is installed now
	$(BIN)/pip freeze --exclude-editable | sed -E 's/ @ .*//; s/\+cpu$$//' | grep -v '^-e' > requirements.lock

clean: ## remove what was made here, data of .headrace included
	rm -rf .venv .headrace .mypy_cache .ruff_cache .pytest_cache .hypothesis

.PHONY: help setup demo test check quick test-kafka test-risingwave lint ruff mypy sqlfluff hooks bench other-libraries lock clean
