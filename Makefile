# `make` alone lists the targets. Each sets up what it needs; nothing has to be installed before
# but Python 3.11 and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH := .venv-bench
BENCH_READY := $(BENCH)/.ready
PYTEST := $(BIN)/python -m pytest -q
# The tests of a file stay together: they share a server, or what they trained. Those that take
# longest are in tests/conftest.py.
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-cluster lint format unit slow integration e2e test chaos chaos-cluster bench \
        bench-scale manifests recipes cluster-up cluster-down clean

##@ Start here

help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: setup ## Train the digits on two ranks, kill one, recover, fetch the best checkpoint (a minute)
	@$(BIN)/python tests/demo/local.py

demo-cluster: setup cluster-up ## The same through kubectl on a two-node Kubernetes
	@$(BIN)/python tests/demo/cluster.py

##@ Develop

setup: $(READY) ## Make the virtual environment from requirements.lock

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Trainyard needs Python 3.11 or newer; set PYTHON=python3.11." if sys.version_info < (3, 11) else 0)'
	@echo "setup: virtual environment in $(VENV) (the first time downloads PyTorch, about 3 GB)"
	@test -x $(BIN)/uv || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $(READY)

lint: setup ## Format, lint, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## Format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

manifests: setup ## Generate CRDs, the chart's parts, manifests/ and the reference pages
	$(BIN)/python -m trainyard_operator.crd
	$(BIN)/python charts/generate.py
	$(BIN)/python docs/generate.py

##@ Test

test: lint unit slow integration e2e ## Lint, unit, slow, integration and e2e, in this order (26 min)

unit: setup ## Unit tests (under 60 s)
	$(PYTEST) -m "not slow" $(PARALLEL) tests/unit

slow: setup ## Unit tests that train with several processes (8 min)
	$(PYTEST) -m "slow and not long" $(PARALLEL) tests/unit

integration: setup ## Against a real kube-apiserver, etcd and S3 (8 min)
	$(PYTEST) $(PARALLEL) tests/integration

chaos: setup ## Kill training runs anywhere, compare to the bit; other tests of minutes (20 min)
	$(BIN)/python tests/chaos/kill.py
	$(PYTEST) -m long tests/unit

chaos-cluster: setup cluster-up ## Each fault five times on two nodes, an elastic job, a Helm release, an ablation (1 h)
	$(BIN)/python tests/chaos/on_nodes.py
	$(PYTEST) -m slow tests/e2e

recipes: setup cluster-up ## Each recipe's example on two nodes, killed once, beside a naive method (25 min; RECIPES="--only csr")
	$(BIN)/python tests/recipes/on_cluster.py $(RECIPES)

e2e: setup $(if $(KUBECONFIG),,cluster-up) ## On two nodes with pods that really run; or on the cluster of KUBECONFIG
	$(PYTEST) -m "not slow" tests/e2e

bench: $(BENCH_READY) ## Ours beside others in one run (half an hour; BENCH_FLAGS=--quick: 7 min)
	$(BENCH)/bin/python tests/bench/run.py $(BENCH_FLAGS)

bench-scale: setup ## Hundreds of jobs at once, beside Kubeflow's operator (15 min; SCALE_FLAGS="--jobs 1000")
	@$(BIN)/python tests/bench/scale.py $(SCALE_FLAGS)

# What we are compared with; the packages that both environments have cost no second disk space.
# Without dependencies, for the lock leaves out pynvml: it does no more than to make every start of
# Python 20 ms slower.
$(BENCH_READY): requirements-bench.lock pyproject.toml $(READY)
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python $(BENCH)
	@$(BIN)/uv pip install --quiet --compile-bytecode --no-deps --python $(BENCH)/bin/python -r requirements-bench.lock
	@$(BIN)/uv pip install --quiet --python $(BENCH)/bin/python --no-deps --editable .
	@touch $(BENCH_READY)

cluster-up: setup ## Start a two-node Kubernetes with S3 on this machine (root; idempotent)
	@$(BIN)/python tests/cluster/cluster.py up

cluster-down: ## Stop it and leave nothing behind
	@$(PYTHON) tests/cluster/cluster.py down

clean: ## Delete what make and the demo made in this directory
	rm -rf $(VENV) $(BENCH) .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
