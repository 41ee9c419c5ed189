# Everything a developer types. Each target sets up what it needs; nothing has to be installed beforehand but
# Python 3.11+ and make.

PYTHON ?= python3
# Where the embedded Postgres of `make demo` and `make serve` keeps its data.
export DATASTATUS_DATA_FOLDER ?= $(CURDIR)/.datastatus

VENV := .venv
BIN := $(VENV)/bin
PROTOS := $(wildcard protos/datastatus/v1/*.proto)
PROTOC = $(BIN)/python -m grpc_tools.protoc -Iprotos -Iprotos_third_party \
	--plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test test-sources test-performance robustness check gen fmt bench bench-quick clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  \033[1mmake %-17s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# One environment for everything: the tools that the demo's last lines and the README call are in it too.
$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed; name it with: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "setting up $(VENV) ..."
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

# Tryton is not ours to import: it has an environment of its own, and the tests run it as a server.
TRYTON_VENV := .venv-tryton
$(TRYTON_VENV)/installed: tests/tryton-requirements.txt
	@echo "setting up $(TRYTON_VENV) ..."
	@test -d $(TRYTON_VENV) || $(PYTHON) -m venv $(TRYTON_VENV)
	@$(TRYTON_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

setup: $(VENV)/installed $(TRYTON_VENV)/installed ## Set up .venv, and .venv-tryton for test-sources

demo: $(VENV)/installed ## See it work: a real book, queued, synchronised, watched
	@$(BIN)/datastatus demo

serve: $(VENV)/installed ## Start the service on 127.0.0.1:50051 with the embedded Postgres
	@$(BIN)/datastatus serve

PYTEST := $(BIN)/python -m pytest --numprocesses 4 --dist loadfile
test: $(VENV)/installed ## Test it, with real Postgres and real server processes
	@$(PYTEST) tests/unit tests/integration tests/acceptance

# Filling the ERP takes a minute, so it is done once, before the tests share it.
test-sources: setup ## Test it against a real ERP and GnuCash's own engine
	@$(BIN)/python tests/tryton_server.py
	@$(PYTEST) tests/sources

test-performance: $(VENV)/installed ## Hold what calls cost to what does not depend on the machine
	@$(BIN)/python -m pytest tests/performance

TRANSITIONS ?= 300000
SEED ?= 0
robustness: $(VENV)/installed ## Hold the watch contract under faults, for long; SEED= repeats a run
	@HISTORY_TRANSITIONS=$(TRANSITIONS) HISTORY_SEED=$(SEED) \
		$(BIN)/python -m pytest -s tests/robustness

check: $(VENV)/installed ## Style, types, layers, protos, generated code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --level error
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code protos
	$(BIN)/python scripts/draw_statuses.py --check
	$(BIN)/python scripts/describe_data_model.py --check
	$(BIN)/python scripts/describe_checks.py --check
	$(BIN)/python scripts/describe_settings.py --check
	@$(MAKE) --no-print-directory gen OUT=build/gen
	diff --recursive --exclude=__pycache__ --exclude=__init__.py build/gen/datastatus/v1 src/datastatus/v1

OUT := src
gen: $(VENV)/installed ## Generate the Python code of protos/
	@rm -rf $(OUT)/datastatus/v1/*_pb2*
	@mkdir -p $(OUT)
	@$(PROTOC) --python_out=$(OUT) --mypy_out=quiet:$(OUT) $(PROTOS)
	@$(PROTOC) --grpc_python_out=$(OUT) --mypy_grpc_out=quiet:$(OUT) $(filter %_service.proto,$(PROTOS))

fmt: $(VENV)/installed ## Format the code and the protos
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format --quiet .
	@$(BIN)/buf format --write protos

# The job queues that one figure is held against are optional: without them its row says so.
$(VENV)/bench-installed: $(VENV)/installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--editable '.[bench-peers]' || echo "going on without the extra bench-peers"
	@touch $@

# Single ones: make bench BENCHMARKS="queue_sync growth"
BENCHMARKS :=
bench: $(VENV)/bench-installed ## Measure (see docs/performance.md); takes a quarter of an hour
	@$(BIN)/python -m benchmarks $(BENCHMARKS)

bench-quick: $(VENV)/bench-installed ## See that every benchmark runs, in less than a minute
	@$(BIN)/python -m benchmarks --quick $(BENCHMARKS)

clean: ## Remove what was built and installed here, but no data
	rm -rf $(VENV) $(TRYTON_VENV) build dist .pytest_cache .ruff_cache .hypothesis
