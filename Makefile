# `make demo` and `make test` do all set-up; they share one build profile and one target directory.
SHELL := /bin/bash
export CARGO_TERM_COLOR ?= never
TARGET := $(or $(CARGO_TARGET_DIR),target)

# Tools of a pinned version, shared by the clones of a user; see scripts/tools.sh.
export PATH := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/foundry/tools/bin:$(CURDIR)/.cache/venv/bin:$(CURDIR)/tools/node_modules/.bin:$(PATH)

RUST_ENV = FOUNDRY_BIN=$(abspath $(TARGET)/debug/foundry)
WEB_ENV = $(RUST_ENV)
WITH_POSTGRES = $(TARGET)/debug/examples/with-postgres
IN_MEMORY = scripts/in-memory.sh

.PHONY: demo test check check-rust check-web test-rust test-postgres test-agents test-faults test-long test-web test-web-beside test-web-alone up bench bench-peers bench-web screenshots build web lint lint-web tools-sandbox tools-web tools-checks

demo: tools-sandbox build
	scripts/demo.sh

up: tools-sandbox web build
	$(TARGET)/debug/foundry up

# Everything. The page's half runs beside the Rust half; what it prints comes at the end.
test: tools-checks web build
	@scripts/halves.sh "$(MAKE)"

# What is quick: formats, lints, types, and the unit and op tests of both halves.
check: tools-checks web
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target check-rust check-web

check-rust: lint
	$(WITH_POSTGRES) cargo nextest run --workspace --lib --locked

check-web: lint-web
	cd web && npm run --silent test -w client && npm run --silent test -w app

# All Rust tests; then the suites of the four services (ops, stores, flows) once more, on PostgreSQL. The tests of a
# run share one cluster.
test-rust: tools-checks
	cargo nextest run --workspace --locked --no-run
	status=0; \
	$(RUST_ENV) $(IN_MEMORY) $(WITH_POSTGRES) cargo nextest run --workspace --locked || status=1; \
	FOUNDRY_TEST_DATABASE=postgres $(IN_MEMORY) $(WITH_POSTGRES) cargo nextest run --workspace --locked --profile postgres || status=1; \
	exit $$status

# The suites of the four services on PostgreSQL alone.
test-postgres: tools-checks
	cargo nextest run --workspace --locked --no-run
	FOUNDRY_TEST_DATABASE=postgres $(IN_MEMORY) $(WITH_POSTGRES) cargo nextest run --workspace --locked --profile postgres

# All five real agents through the whole mesh on a scripted model, one after the other, with the times of each. The
# first run fetches them (1.4 GB on disk, in the target directory); `make test` has the smallest of them.
test-agents: tools-checks build
	$(RUST_ENV) \
		cargo nextest run --locked --workspace --test all_agents --profile agents

# Every action on a stack of branches, crashed, repeated and cancelled at each point of each stage; `make test` has a restack and
# an undo.
test-faults: tools-checks
	$(IN_MEMORY) cargo nextest run --workspace --lib --locked --profile faults

# 100,000 flows while wake-ups are lost and processes crash; 64 MiB of an agent's output in several ways; a work of 30,000 files;
# a mesh without its auth service for more than a minute.
test-long: tools-checks build
	cargo nextest run --locked -p foundry-flow --test long --profile long
	$(RUST_ENV) cargo nextest run --locked --workspace --test flood --profile long
	$(RUST_ENV) cargo nextest run --locked --workspace --test it --profile long \
		-E 'package(foundry-tests) and test(/^revocation::without_auth/)'

# The client's and the page's tests, then the stories in a real browser; all run even if one fails.
test-web: test-web-beside test-web-alone

test-web-beside:
	cd web && status=0; \
	npm run --silent check || status=1; \
	npm run --silent test -w client || status=1; \
	npm run --silent test -w app || status=1; \
	$(WEB_ENV) ../$(IN_MEMORY) npm run --silent test:mesh -w client || status=1; \
	$(WEB_ENV) ../$(IN_MEMORY) npm run --silent test -w stories -- --project '!alone*' || status=1; \
	exit $$status

test-web-alone:
	cd web && $(WEB_ENV) ../$(IN_MEMORY) npm run --silent test -w stories -- --project 'alone*'

# Pictures of every page and state, light and dark, desktop and phone, in web/stories/out.
screenshots: tools-checks web build
	cd web && $(WEB_ENV) npm run --silent screenshots -w stories

# Size of the page and its time to be interactive; reported, never gated.
bench-web: tools-checks web
	cargo build --release --locked -p foundry -p foundry-with-faults
	cd web && npm run --silent size -w app && \
		FOUNDRY_BIN=$(abspath $(TARGET)/release/foundry) npm run --silent bench -w stories

# The mesh beside its baselines and peers; reported, never gated (docs/bench.md). The only target that builds release.
# FOUNDRY_BENCH_SECONDS (default 10) scales how long each figure is measured; BENCH has further options: BENCH=--quick.
bench:
	cargo build --release --locked -p foundry -p foundry-with-faults -p foundry-bench
	FOUNDRY_BIN=$(abspath $(TARGET)/release/foundry) $(TARGET)/release/foundry-bench $(BENCH)

# What the benchmark compares with: etcd and NATS from Debian, Restate from npm.
bench-peers:
	scripts/tools.sh peers $(abspath $(TARGET))/bench-peers

# Building is linting: see scripts/rustc-with-lints.
lint: tools-checks
	cargo fmt --all --check
	typos
	cargo machete
	cargo deny --log-level error check bans licenses sources
	scripts/no-warnings.sh cargo build --workspace --bins --locked
	scripts/no-warnings.sh cargo nextest run --workspace --locked --no-run
	scripts/no-warnings.sh cargo nextest run --workspace --test all_agents --test long --test flood --locked --no-run
	cd proto && buf lint

lint-web: web
	cd web && npm run --silent check

# With the forge and the model of the stories, whose features are those of the whole workspace, so that the tests need no
# others.
build:
	cargo build --locked -p foundry -p foundry-with-faults
	cargo build --locked --workspace --example forge-host --bin foundry-scripted-model

# The page; the gateway embeds what it finds in web/app/dist when it is compiled, so that is made only when it would differ.
PAGE := .cache/page.stamp
PAGE_SOURCES := proto web/package-lock.json web/tsconfig.base.json web/app/package.json web/app/index.html \
	web/app/vite.config.ts web/app/scripts web/app/src web/client/package.json web/client/buf.gen.yaml web/client/proto web/client/src
web: tools-web $(shell [ -e web/app/dist/index.html ] && [ -e web/client/src/gen ] || rm -f $(PAGE)) $(PAGE)

$(PAGE): $(shell find $(PAGE_SOURCES) -not -path '*/gen' -not -path '*/gen/*' 2>/dev/null)
	cd web && npm run --silent generate && npm run --silent build
	mkdir -p $(@D) && touch $@

tools-sandbox:
	scripts/tools.sh sandbox

tools-web:
	scripts/tools.sh web

tools-checks:
	scripts/tools.sh checks
