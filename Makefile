# `make demo` and `make test` do all set-up; they share one build profile and one target directory.
SHELL := /bin/bash
export CARGO_TERM_COLOR ?= never
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: demo test up bench build lint tools-sandbox tools-checks

demo: tools-sandbox build
	scripts/demo.sh

up: tools-sandbox build
	$(TARGET)/debug/foundry up

test: tools-checks build lint
	FOUNDRY_BIN=$(abspath $(TARGET)/debug/foundry) PATH="$(CURDIR)/.cache/venv/bin:$(CURDIR)/tools/node_modules/.bin:$$PATH" \
		cargo test --workspace --locked --no-fail-fast

# First figures, each beside its baseline; reported, never gated. The only target that builds release.
# FOUNDRY_BENCH_SECONDS (default 10) scales how long each figure is measured.
bench:
	cargo build --release --locked -p foundry -p foundry-bench
	FOUNDRY_BIN=$(abspath $(TARGET)/release/foundry) $(TARGET)/release/foundry-bench

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cd proto && ../tools/node_modules/.bin/buf lint

build:
	cargo build --locked -p foundry

tools-sandbox:
	scripts/tools.sh sandbox

tools-checks:
	scripts/tools.sh checks
