# One command each. Everything lives in .venv, made on first use from constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
ENGINES := $(VENV)/engines
COMPILED := setup.py $(wildcard src/tallybook/*/*.[ch])
# What was compiled is kept, whatever the environment says: a start takes half the processor time then.
export PYTHONDONTWRITEBYTECODE :=
AS_ROOT := $(if $(filter-out 0,$(shell id -u)),sudo)
# Folders of tests are in memory where there is room: they then wait for no disk.
ROOM := $(shell grep -qs '^[^ ]* /dev/shm [^ ]* [^ ]*\bnoexec' /proc/mounts || df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 4000000 {print "/dev/shm"}')
PYTEST := $(ROOM:%=TMPDIR=%) $(BIN)/pytest
TESTS := $(PYTEST) -n 2 --dist worksteal

# The rooms that compute money, and the tests that are theirs.
ROOMS := rate invoice settle catalog
MONEY := $(ROOMS:%=tallybook.%)
MONEY_TESTS := $(ROOMS:%=tests/unit/%) tests/flow tests/golden tests/contract
COVERED := $(abspath $(VENV))/.coverage
comma := ,
space := $(subst ,, )

.PHONY: help run test test-long coverage check fmt mutate bench bench-guard engines clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

run: $(VENV)/.server  ## install, start the server, meter and bill this machine (ARGS=--once to end there)
	$(BIN)/tallybook demo $(ARGS)

test: $(VENV)/.dev  ## every test that takes seconds
	$(TESTS) -m "not slow" $(ARGS)

test-long: $(VENV)/.dev  ## the tests that take minutes: drills, 200 crashes, long searches; half an hour in all
	$(PYTEST) -m slow -n 2 --maxschedchunk 1 -o faulthandler_timeout=1200 --durations=0 $(ARGS)

coverage: $(VENV)/.dev  ## every branch of the rooms that compute money is taken by a test
	rm -f $(COVERED) $(COVERED).*
	HYPOTHESIS_PROFILE=mutants COVERAGE_FILE=$(COVERED) $(BIN)/coverage run --source=$(subst $(space),$(comma),$(MONEY)) \
	  -m pytest -q -n 2 --dist worksteal -m "not slow" $(MONEY_TESTS) $(ARGS)
	COVERAGE_FILE=$(COVERED) $(BIN)/coverage combine -q
	COVERAGE_FILE=$(COVERED) $(BIN)/coverage report --fail-under=100

check: $(VENV)/.dev  ## format, lint, types, import rules, sizes, dependencies
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/tidy.py
	$(BIN)/deptry src

fmt: $(VENV)/.dev  ## format, and fix what can be fixed mechanically
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

mutate: $(VENV)/.dev  ## small changes that no test notices (ARGS="rate tiers.py")
	$(BIN)/python tools/mutate.py $(ARGS)

bench: $(VENV)/.dev  ## speed figures on this machine, into bench/REPORT.md (ARGS="all", "growth", "soak", "--quick")
	$(BIN)/python -m bench $(ARGS)

bench-guard: $(VENV)/.dev  ## no ratio of speed has moved: ours over a bare step, of the same run
	$(BIN)/python -m bench guard $(ARGS)

engines: $(ENGINES)/greenfield-apps.jar $(ENGINES)/phive-rules-peppol.jar $(ENGINES)/kafka/.fetched  ## fetch what tests need besides Python: databases, Prometheus, Mosquitto, nginx, Apache (apt), Kafka and archives of rules (Maven)
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 && \
	  (for each in mariadbd prometheus prometheus-node-exporter mosquitto nginx apache2 java; do \
	    command -v $$each >/dev/null || exit 1; done) || \
	  $(AS_ROOT) sh -c 'apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql mariadb-server prometheus prometheus-node-exporter mosquitto nginx-light apache2-bin openjdk-17-jre-headless'

clean:  ## remove the environment and every cache; never data folders
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps: rebuilt only when what they install has changed.
$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tallybook needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.server: pyproject.toml constraints.txt $(COMPILED) | $(VENV)/bin/python
	$(PIP) install --quiet -c constraints.txt -e '.[server]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt $(COMPILED) | $(VENV)/bin/python
	$(PIP) install --quiet -c constraints.txt -e '.[server,dev]'
	@touch $@ $(VENV)/.server

# Validators of documents, Java archives by name and version: PDF/A, and the rules of Peppol.
$(ENGINES)/greenfield-apps.jar: | $(VENV)/bin/python
	$(call fetched,org.verapdf.apps:greenfield-apps:1.28.2)

$(ENGINES)/phive-rules-peppol.jar: | $(VENV)/bin/python
	$(call fetched,com.helger.phive.rules:phive-rules-peppol:3.2.6)

# One Kafka broker with everything it needs, by name and version.
$(ENGINES)/kafka/.fetched: tools/kafka/pom.xml | $(VENV)/bin/python
	mvn -q -B -f tools/kafka/pom.xml dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=$(abspath $(ENGINES))/kafka
	touch $@

define fetched
	mkdir -p $(ENGINES)
	mvn -q -B dependency:get -Dartifact=$(1) -Dtransitive=false
	mvn -q -B dependency:copy -Dartifact=$(1) -DoutputDirectory=$(ENGINES) -Dmdep.stripVersion=true
	touch $@
endef
