# `make demo` and `make test` do all set-up; they share one build profile and one target directory.
SHELL := /bin/bash
export CARGO_TERM_COLOR ?= never
TARGET := $(or $(CARGO_TARGET_DIR),target)

WEB_ENV = FOUNDRY_BIN=$(abspath $(TARGET)/debug/foundry)

.PHONY: demo test test-postgres test-agents up bench bench-web screenshots build web lint test-web tools-sandbox tools-web tools-checks

demo: tools-sandbox build
	scripts/demo.sh

up: tools-sandbox web build
	$(TARGET)/debug/foundry up

test: tools-checks web build lint
	status=0; $(MAKE) --no-print-directory test-web || status=1; \
	FOUNDRY_BIN=$(abspath $(TARGET)/debug/foundry) PATH="$(CURDIR)/.cache/venv/bin:$(CURDIR)/tools/node_modules/.bin:$$PATH" \
		cargo test --workspace --locked --no-fail-fast || status=1; \
	$(MAKE) --no-print-directory test-postgres || status=1; \
	exit $$status

# The suites of the four services (ops, stores, flows) once more, on PostgreSQL.
test-postgres: tools-checks
	scripts/test-postgres.py

# All five real agents through the whole mesh on a scripted model, one after the other, with the times of each. The
# first run fetches them (1.4 GB on disk, in the target directory); `make test` has the smallest of them.
test-agents: build
	FOUNDRY_BIN=$(abspath $(TARGET)/debug/foundry) \
		cargo test --locked -p foundry-tests --test all_agents -- --nocapture --test-threads 1

# The client's and the page's tests, then the stories in a real browser; all run even if one fails.
test-web:
	cd web && status=0; \
	npm run --silent check || status=1; \
	npm run --silent test -w client || status=1; \
	npm run --silent test -w app || status=1; \
	$(WEB_ENV) npm run --silent test:mesh -w client || status=1; \
	$(WEB_ENV) npm run --silent test -w stories || status=1; \
	exit $$status

# Pictures of every page and state, light and dark, desktop and phone, in web/stories/out.
screenshots: tools-checks web build
	cd web && $(WEB_ENV) npm run --silent screenshots -w stories

# Size of the page and its time to be interactive; reported, never gated.
bench-web: tools-checks web
	cargo build --release --locked -p foundry -p foundry-with-faults
	cd web && npm run --silent size -w app && \
		FOUNDRY_BIN=$(abspath $(TARGET)/release/foundry) npm run --silent bench -w stories

# First figures, each beside its baseline; reported, never gated. The only target that builds release.
# FOUNDRY_BENCH_SECONDS (default 10) scales how long each figure is measured.
bench:
	cargo build --release --locked -p foundry -p foundry-with-faults -p foundry-bench
	FOUNDRY_BIN=$(abspath $(TARGET)/release/foundry) $(TARGET)/release/foundry-bench

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo clippy -p foundry-tests --test all_agents --locked -- -D warnings
	cd proto && ../tools/node_modules/.bin/buf lint

build:
	cargo build --locked -p foundry -p foundry-with-faults

# The page; the gateway embeds what it finds in web/app/dist when it is compiled.
web: tools-web
	cd web && npm run --silent generate && npm run --silent build

tools-sandbox:
	scripts/tools.sh sandbox

tools-web:
	scripts/tools.sh web

tools-checks:
	scripts/tools.sh checks
