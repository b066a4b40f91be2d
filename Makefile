# Everything goes into .venv; `make help` lists the targets.
PYTHON ?= $(shell command -v python3.11 || echo python3)
TORCH_INDEX ?=
DATA ?= data
IMAGES ?=
TORCH := torch==2.13.0

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check
READY := $(VENV)/.ready-$(shell cksum pyproject.toml constraints.txt 2>/dev/null | cksum | cut -d' ' -f1)

.DEFAULT_GOAL := help
.PHONY: help setup serve demo test check lint types layers unit format formats conformance faults bench wheel-check constraints clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  Variables: PYTHON=$(PYTHON)  DATA=$(DATA)  IMAGES=folder (demo)  TORCH_INDEX=address (setup)"

setup: $(READY) ## Install everything into .venv, so that .venv/bin/ownvision runs

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The stamp's name carries a checksum of what decides the installation: a changed pin installs again, a fresh
# clone's file times do not.
$(READY): | $(BIN)/python
	@.ci/torch-build "$(BIN)/pip" "$(TORCH)" "$(TORCH_INDEX)"
ifneq ($(TORCH_INDEX),)
	@$(PIP) install --quiet --constraint constraints.txt --index-url $(TORCH_INDEX) $(TORCH)
else
	@$(PIP) install --quiet --constraint constraints.txt $(TORCH)
endif
	@$(PIP) install --quiet --constraint constraints.txt --editable '.[train,dev]'
	@rm -f $(VENV)/.ready-*
	@touch $@

serve: setup ## Run the service with its data in DATA (default: data)
	$(BIN)/ownvision serve --data $(DATA)

demo: setup ## Show a project's whole life on real images; IMAGES=folder takes a folder per tag of yours
	$(BIN)/python -m ownvision.demo $(if $(IMAGES),--images "$(IMAGES)")

test: setup ## Run every test
	$(BIN)/pytest -n 2 --dist loadfile

check: lint types layers unit ## Lint, types, layers and unit tests, within a minute

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

layers: setup
	$(BIN)/lint-imports

unit: setup
	$(BIN)/pytest -q -n 2 -m "not service and not train and not slow and not conformance"

format: setup ## Put the source into the house's form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

conformance: setup ## Run the official clients of every version against a service; writes docs/conformance.md
	$(BIN)/pytest -q -m conformance tests/conformance; code=$$?; $(BIN)/python -m tests.conformance.report; exit $$code

formats: setup ## Let supervision and datumaro read what a takeout holds
	$(BIN)/pytest -q -m conformance tests/conformance/test_formats.py

faults: setup ## Kill server and worker 200 times at seeded moments (about an hour)
	OWNVISION_KILLS=200 $(BIN)/pytest -q tests/faults

bench: setup ## Measure, each beside its limit or peer; results go to benchmarks/results/
	$(BIN)/python -m benchmarks

wheel-check: setup ## Build the wheel, install it in a new environment and serve from it
	$(BIN)/pytest -q -m slow tests/test_wheel.py

constraints: ## Pin what is installed now
	@sed -n '/^#/p' constraints.txt > constraints.new
	@$(PIP) freeze --exclude-editable 2>/dev/null | sed 's/^torch==\([^+]*\).*/torch==\1/' >> constraints.new
	@mv constraints.new constraints.txt

clean: ## Remove what the tools made; .venv and DATA stay
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
