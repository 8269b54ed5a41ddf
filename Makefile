# The one list of commands. What each does is in the script or command that it calls.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin
JOBS ?= 2

.PHONY: help setup demo up down test lint format protos docs soak chaos bench-scorer bench-quality bench-search bench-callers clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## check the machine, create .venv, fetch the Java parts, compile (again: instant)
	@deploy/setup.sh

demo: setup ## run everything on the sample, print what it found, stop (KEEP=1: leave it up)
	@$(BIN)/neardup demo $(if $(filter-out 0,$(KEEP)),--keep)

up: setup ## start all parts as a supervised service, return when they are ready
	@$(BIN)/neardup up

down: ## stop all parts
	@if [[ -x $(BIN)/neardup ]]; then $(BIN)/neardup down; fi

lint: setup ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: setup ## let ruff put the code in order
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

protos: setup ## make the Python modules of the .proto files anew
	@deploy/protos.sh

test: lint ## set up, lint, run every test (JOBS=4: four at a time, but those on the real parts)
	@$(BIN)/python -m pytest -m "not cluster" --numprocesses $(JOBS)
	@$(BIN)/python -m pytest -m cluster

docs: setup ## build the documents as a site, strictly (build/docs/index.html)
	@$(BIN)/mkdocs build --strict --quiet

soak: setup ## benchmark: 100 and 200 images/s for minutes, latency and memory
	@$(BIN)/python -m benchmarks.soak

bench-scorer: setup ## benchmark: the scorer in process and behind the server, beside bare matrix products
	@$(BIN)/python -m benchmarks.scorer

bench-quality: setup ## benchmark: the classifier beside cosine, hamming, PDQ, pHash (PHOTOS=folder)
	@$(BIN)/python -m benchmarks.quality $(PHOTOS)

bench-search: setup ## benchmark: the term index against its goals and against peers
	@$(BIN)/python -m benchmarks.search

bench-callers: setup ## benchmark: what a flood of other callers costs the stream
	@$(BIN)/python -m benchmarks.callers

chaos: setup ## fault test, long: every part killed ten times while images flow
	@$(BIN)/python -m benchmarks.chaos

clean: down ## stop all parts, remove their data (var/) and the caches of the tools
	@rm -rf var build .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	@find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
