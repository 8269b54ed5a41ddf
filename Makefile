# All commands of a checkout. Each calls a script or a module, which does the work.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin
JOBS ?= 2
PURE_TESTS := $(addprefix tests/,clustering core fixtures manifests neardup operators scoring search storage)

.PHONY: help setup demo up down test test-tools coverage lint format protos soak chaos bench-scorer bench-quality bench-search bench-hashing bench-callers bench-large-calls bench-capacity bench-replay bench-traces bench-pipeline bench-storage bench-memory bench-bootstrap docs clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## check the machine, create .venv, fetch the Java parts, compile; instant when repeated (S3=1: manifests in S3)
	@S3=$(S3) deploy/setup.sh

demo: setup ## run everything on the sample, print the result, stop (KEEP=1: leave it running)
	@$(BIN)/neardup demo $(if $(filter-out 0,$(KEEP)),--keep)

up: setup ## start all parts as a supervised service, return when they are ready
	@$(BIN)/neardup up

down: ## stop all parts
	@if [[ -x $(BIN)/neardup ]]; then $(BIN)/neardup down; fi

lint: setup ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: setup ## let ruff fix and format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

protos: setup ## generate the Python modules of the .proto files
	@deploy/protos.sh

test: lint test-tools coverage ## set up, lint, run every test (JOBS=4: four unit tests at a time)
	@$(BIN)/python -m pytest -m "not cluster" --numprocesses $(JOBS) $(PURE_TESTS:%=--ignore=%)
	@$(BIN)/python -m pytest -m cluster

test-tools: setup ## fetch promtool, which tests the alerts
	@deploy/promtool.sh

coverage: setup ## run the tests of the pure folders; at least 95 % of their branches are taken
	@$(BIN)/python -m pytest -m "not cluster" --numprocesses $(JOBS) --cov --cov-report= $(PURE_TESTS)
	@$(BIN)/coverage json -q -o var/coverage.json
	@$(BIN)/python -m tests.support.branch_coverage var/coverage.json

soak: setup ## benchmark: the whole service at 100 and 200 images/s, latency and memory
	@$(BIN)/python -m benchmarks.soak

bench-scorer: setup ## benchmark: the scorer in process and behind its server, beside plain matrix products
	@$(BIN)/python -m benchmarks.scorer

bench-quality: setup ## benchmark: the classifier beside cosine, hamming, PDQ, pHash (PHOTOS=folder)
	@$(BIN)/python -m benchmarks.quality $(PHOTOS)

bench-search: setup ## benchmark: the term index against its goals and against peers
	@$(BIN)/python -m benchmarks.search

bench-hashing: setup ## benchmark: images a second and core from stored embeddings to terms, codes and an index
	@$(BIN)/python -m benchmarks.hashing

bench-callers: setup ## benchmark: the stream's latency during a flood of other callers
	@$(BIN)/python -m benchmarks.callers

bench-large-calls: setup ## benchmark: memory of each server under 64 calls of the largest size
	@$(BIN)/python -m benchmarks.large_calls

bench-capacity: setup ## benchmark: bytes an image in each part, and a flood of junk beside images
	@$(BIN)/python -m benchmarks.capacity

bench-replay: setup ## benchmark: live latency beside a replay, pace of replays and trials, one trace of many
	@$(BIN)/python -m benchmarks.replay

bench-traces: setup ## benchmark: processor time of the task manager with no, some and all images traced
	@$(BIN)/python -m benchmarks.trace_cost

bench-pipeline: setup ## benchmark: the whole service beside its own work in one process, and beside what users write
	@$(BIN)/python -m benchmarks.pipeline

bench-bootstrap: setup ## benchmark: first loads of up to 5,000,000 images, and live latency beside a delta
	@$(BIN)/python -m benchmarks.bootstrap

bench-memory: setup ## benchmark: memory of all parts over a million images
	@$(BIN)/python -m benchmarks.memory

bench-storage: setup ## benchmark: reads, writes and pages of the store beside plain RocksDB
	@$(BIN)/python -m benchmarks.storage

chaos: setup ## long fault test: 300 kills, hangs and power cuts while images flow, are replayed and deleted
	@$(BIN)/python -m benchmarks.chaos

docs: setup ## build the documents as a site, strictly (build/docs/index.html)
	@$(BIN)/mkdocs build --strict --quiet

clean: down ## stop all parts, remove their data (var/) and the caches of tools
	@rm -rf var build .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	@find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
