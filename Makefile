# Entry points for developers. `make` alone lists them; ARGS="…" is handed on where it says so.

BIN := .venv/bin
RUN := .venv/.installed-run
DEV := .venv/.installed-dev
LOCK := uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --extra demo --group build

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo check test faults bench-ingest bench-query lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(RUN) ## Install what running needs: .venv with the locked dependencies, Mosquitto
	@scripts/system-packages mosquitto mosquitto_pub:mosquitto-clients

setup-dev: setup $(DEV) ## Install what checking and testing need on top; without a browser the tests of its page are skipped
	-@scripts/system-packages chromium

demo: setup ## Run everything embedded: database, broker, simulated city, API (ARGS)
	@$(BIN)/telemetry demo $(ARGS)

check: $(RUN) $(DEV) ## Lint, format, types and import walls
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/unit/test_walls.py tests/unit/test_house_rules.py

test: setup-dev ## Run the tests, side by side on all cores (ARGS for pytest; "-n 0" one after the other)
	$(BIN)/python -m pytest -n logical --dist worksteal $(ARGS)

faults: setup-dev ## Prove that no fault loses or doubles a message; all of them write docs/measured/faults.md (ARGS for pytest chooses)
	@TELEMETRY_TEST_FAULTS=all $(if $(ARGS),,TELEMETRY_TEST_FAULTS_REPORT=docs/measured/faults.md) $(BIN)/python -m pytest tests/faults $(ARGS)

bench-ingest: setup-dev ## Measure ingest from broker to committed row (ARGS)
	@$(BIN)/python -m tests.benchmarks.ingest $(ARGS)

bench-query: setup-dev ## Measure questions over HTTP on a month of readings (ARGS)
	@$(BIN)/python -m tests.benchmarks.query $(ARGS)

lock: $(DEV) ## Resolve the dependencies anew into requirements*.txt (ARGS="--upgrade" for newer ones)
	PATH="$$PATH:$(BIN)" $(LOCK) $(ARGS) --output-file requirements.txt
	PATH="$$PATH:$(BIN)" $(LOCK) $(ARGS) --group dev --constraint requirements.txt --output-file requirements-dev.txt

clean: ## Remove caches and build results; .venv and the demo's data stay
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUN): pyproject.toml requirements.txt scripts/setup
	@scripts/setup requirements.txt
	@touch $@

$(DEV): pyproject.toml requirements-dev.txt scripts/setup | $(RUN)
	@scripts/setup requirements-dev.txt
	@touch $@
