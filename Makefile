# Needs Python 3.11 or newer, make and git; everything else is installed into .venv.
PYTHON ?= python3
ARGS ?=

MEMBERS := shared/contracts shared/servicekit \
	services/contacts services/campaigns services/activities services/batch-loader \
	services/workflow services/channel-sms services/stats \
	simulators/carrier cli
MEMBER_PROJECTS := $(MEMBERS:%=%/pyproject.toml)
SOURCES := $(MEMBERS:%=%/src) $(wildcard tests bench)

VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install clean lock check lint types imports format \
	test test-scenarios test-pymongo faults planted test-containers test-kafka test-kafka-short ci \
	bench-consume bench-outbox bench-line bench-latency bench-idle bench-stats bench-recalculate bench-reports stats-kills \
	demo up docs asyncapi-check compose-up compose-down compose-demo compose-check k8s-check

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2} /^##@ / {printf "\n%s\n", substr($$0, 5)}' $(MAKEFILE_LIST)

##@ Environment
install: $(INSTALLED) ## Make .venv with everything pinned in the locks

$(UV): requirements-uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "Parley needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
		{ echo "This Python cannot make virtual environments; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing what the locks pin into $(VENV): less than a minute, on a slow line more"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock
	@touch $@

$(INSTALLED): $(UV) requirements-dev.lock $(MEMBER_PROJECTS)
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements-dev.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation $(MEMBERS:%=-e %)
	@touch $@

# UPGRADE=1 moves the pins; without it only what the projects changed is resolved again.
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade) \
	$(foreach name,$(notdir $(MEMBERS)),--no-emit-package parley-$(name))

lock: $(UV) ## Resolve the requirements locks again (UPGRADE=1 moves every pin)
	$(COMPILE) $(MEMBER_PROJECTS) -o requirements.lock
	$(COMPILE) $(MEMBER_PROJECTS) --all-extras --group pyproject.toml:dev -c requirements.lock -o requirements-dev.lock
	$(COMPILE) --group pyproject.toml:bench -o requirements-bench.lock
	echo uv | $(COMPILE) - -o requirements-uv.lock
	echo hatchling | $(COMPILE) - -c requirements-dev.lock -o requirements-build.lock

clean: ## Remove .venv, caches and generated reports; data directories stay
	rm -rf $(VENV) $(BENCH_VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis tools/asyncapi/node_modules
	find $(MEMBERS) tests -name __pycache__ -type d -prune -exec rm -rf {} +

##@ Checks
check: lint types imports ## Lint, types and import rules

lint: $(INSTALLED) ## Ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED) ## mypy --strict over every source folder
	$(BIN)/mypy --strict $(SOURCES)

imports: $(INSTALLED) ## Who may import whom
	$(BIN)/lint-imports

format: $(INSTALLED) ## Rewrite the sources in the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

##@ Tests (ARGS="-k name -x" goes to pytest)
# A file stays on one worker; the longest ones begin. Three keep two cores busy: a test waits as long as it works.
AT_ONCE := -n 3 --dist loadfile --no-loadscope-reorder
# Each worker has engines of its own, and those in containers are larger.
AT_ONCE_IN_CONTAINERS := -n 2 --dist loadfile --no-loadscope-reorder

test: $(INSTALLED) ## The suite on embedded engines, scenarios included
	$(BIN)/pytest $(AT_ONCE) $(ARGS)

test-scenarios: $(INSTALLED) ## The whole line: reconciled, rewound, poisoned, each service killed
	$(BIN)/pytest -m scenario tests/scenarios $(ARGS)

stats-kills: $(INSTALLED) ## Kill the statistics' consumer fifty times in 200,000 events, then recount
	PARLEY_TEST_STATS_KILLS=50 PARLEY_TEST_STATS_EVENTS=200000 $(BIN)/pytest tests/stats/test_kills.py --timeout 3600 $(ARGS)

test-pymongo: $(INSTALLED) ## The suite on PyMongo's async client instead of Motor
	PARLEY_MONGO_DRIVER=pymongo $(BIN)/pytest $(AT_ONCE) $(ARGS)

test-containers: $(INSTALLED) ## The suite on Apache Kafka and MongoDB in containers
	PARLEY_TEST_ENGINES=containers $(BIN)/pytest $(AT_ONCE_IN_CONTAINERS) $(ARGS)

test-kafka: $(INSTALLED) ## The suite on Apache Kafka (KAFKA_BOOTSTRAP_SERVERS, else a container) and an embedded mongod
	PARLEY_TEST_ENGINES=kafka $(BIN)/pytest $(AT_ONCE_IN_CONTAINERS) $(ARGS)

test-kafka-short: $(INSTALLED) ## On Apache Kafka only what depends on it most: replicas, rebalances, the kit, two services
	PARLEY_TEST_ENGINES=kafka $(BIN)/pytest $(AT_ONCE_IN_CONTAINERS) tests/replicas tests/engines tests/servicekit tests/activities \
		tests/channel_sms tests/stats/test_recovery.py $(ARGS)

BENCH_ENGINES ?= containers

bench-consume: $(INSTALLED) ## The pipeline against a bare loop (BENCH_ENGINES=embedded without Docker)
	PARLEY_TEST_ENGINES=$(BENCH_ENGINES) $(BIN)/python -m bench.consume $(ARGS)

bench-outbox: $(INSTALLED) ## Rows per second through two relays, order kept
	PARLEY_TEST_ENGINES=$(BENCH_ENGINES) $(BIN)/python -m bench.outbox $(ARGS)

bench-line: $(INSTALLED) ## Automated activities a second through all services
	PARLEY_TEST_ENGINES=$(BENCH_ENGINES) $(BIN)/python -m bench.line $(ARGS)

bench-latency: $(INSTALLED) ## From a completion to the next activity's dispatch, at 50/s and 200/s
	PARLEY_TEST_ENGINES=$(BENCH_ENGINES) $(BIN)/python -m bench.latency $(ARGS)

bench-idle: $(INSTALLED) ## Processor and memory of every process at rest
	PARLEY_TEST_ENGINES=$(BENCH_ENGINES) $(BIN)/python -m bench.idle $(ARGS)

BENCH_VENV := .venv-bench

$(BENCH_VENV)/.installed: $(UV) requirements-bench.lock
	$(UV) venv --quiet --allow-existing --python $(BIN)/python $(BENCH_VENV)
	$(UV) pip sync --quiet --python $(BENCH_VENV)/bin/python --require-hashes requirements-bench.lock
	@touch $@

bench-stats: $(INSTALLED) $(BENCH_VENV)/.installed ## The ledger against an unsafe loop, FastStream, Quix Streams and the limit
	PARLEY_TEST_ENGINES=$(BENCH_ENGINES) $(BIN)/python -m bench.stats --quix $(BENCH_VENV)/bin/python $(ARGS)

bench-recalculate: $(INSTALLED) ## Recount five million ledger rows: time and memory (ARGS="--rows 100000" for fewer)
	PARLEY_TEST_ENGINES=$(BENCH_ENGINES) $(BIN)/python -m bench.recalculate $(ARGS)

bench-reports: $(INSTALLED) ## Milliseconds of reports over a year of ten million activities (ARGS="--activities 100000")
	PARLEY_TEST_ENGINES=$(BENCH_ENGINES) $(BIN)/python -m bench.reports $(ARGS)

ci: ## What a fresh machine runs
	.ci/run

##@ Run
demo: $(INSTALLED) ## Ten thousand contacts through the whole line, reconciled
	$(BIN)/parley demo $(ARGS)

up: $(INSTALLED) ## The engines and all services on this machine, until Ctrl-C
	$(BIN)/parley up $(ARGS)

##@ Documents
docs: $(INSTALLED) ## Generate docs/asyncapi, docs/schemas, docs/settings.md and the message map in README.md
	$(BIN)/parley docs

asyncapi-check: ## Validate docs/asyncapi with a parser that is not ours (needs Node.js)
	@command -v npm >/dev/null || { echo "Node.js with npm is missing: the AsyncAPI documents were not checked" >&2; exit 1; }
	@test -n "$(wildcard docs/asyncapi/*)" || { echo "docs/asyncapi is empty; run: make docs" >&2; exit 1; }
	@test -d tools/asyncapi/node_modules || npm ci --silent --no-fund --no-audit --prefix tools/asyncapi
	node tools/asyncapi/validate.mjs $(wildcard docs/asyncapi/*.json docs/asyncapi/*.yaml)

##@ Faults (the outside judge recounts what is left of the promises)
RUN ?= all

faults: $(INSTALLED) ## Kill, stop and mistreat the line: RUN=sweep|storm|rewind|replicas|clock|all, ARGS="--seed 7 --size 500"
	$(BIN)/python -m tests.faults $(RUN) $(ARGS)

planted: $(INSTALLED) ## Plant each known bug in a copy and see it caught (ARGS=--quick as CI does)
	$(BIN)/python -m tests.faults.planted $(ARGS)

##@ Deployment (Docker with Compose; ARGS="--scale channel-sms=3" goes to it)
# Packages come from where pip on this machine has them from, without that getting into the image.
PIP_CONFIG_FILE ?= $(firstword $(wildcard $(HOME)/.config/pip/pip.conf $(HOME)/.pip/pip.conf /etc/pip.conf) /dev/null)
COMPOSE = PIP_CONFIG_FILE=$(PIP_CONFIG_FILE) docker compose
DEMO_FILES := -f docker-compose.yml -f docker-compose.demo.yml
SERVICES := $(notdir $(filter services/%,$(MEMBERS)))

compose-up: ## The deployment on Apache Kafka and MongoDB in containers; returns when all of it is healthy
	$(COMPOSE) up --build --detach $(ARGS)
	$(COMPOSE) up --no-recreate --detach --wait --wait-timeout 300 $(ARGS) $(SERVICES) carrier

compose-down: ## Stop it; what it stored stays (ARGS=--volumes removes that as well)
	$(COMPOSE) --profile cli down --remove-orphans $(ARGS)

compose-demo: ## The demonstration on such a deployment, which must be new (CONTACTS=10000)
	$(COMPOSE) $(DEMO_FILES) up --build --detach
	$(COMPOSE) $(DEMO_FILES) up --no-recreate --detach --wait --wait-timeout 300 $(SERVICES) carrier
	$(COMPOSE) $(DEMO_FILES) run --rm parley demo --data-dir /var/lib/parley/clock/demo \
		--contacts $(or $(CONTACTS),10000) $(ARGS)

compose-check: $(INSTALLED) ## Bring a deployment up on ports of its own, scale it, stop it, start it again
	PIP_CONFIG_FILE=$(PIP_CONFIG_FILE) PARLEY_TEST_DEPLOYMENT=1 $(BIN)/pytest -rs tests/deploy/test_running.py $(ARGS)

KUSTOMIZE := sigs.k8s.io/kustomize/kustomize/v5@v5.7.1

k8s-check: $(INSTALLED) ## Render deploy/kubernetes with kustomize and hold it against the schemas of Kubernetes
	@command -v kustomize >/dev/null || test -x $(BIN)/kustomize || { \
		command -v go >/dev/null && GOBIN=$(CURDIR)/$(BIN) go install $(KUSTOMIZE); } || \
		echo "kustomize is missing, and Go to get it: only what needs no rendering is checked" >&2
	$(BIN)/pytest -rs tests/deploy/test_kubernetes.py $(ARGS)
