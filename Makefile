# What one does with this repository. `make help` lists it; every target can be run on a fresh Debian 12 with Rust.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
# Where rustup puts cargo, for a shell that was opened before it was installed.
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: help setup build release demo test lint fmt doc bench deb completions man check-deploy check-deb test-vm vagrant-up clean

help: ## List the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1@\2/p' $(MAKEFILE_LIST) | column -t -s @

setup: ## Install the Debian packages that are missing (asks apt-get only then), and check Rust
	@bash integration/setup.sh

build: setup ## Build everything, unoptimised
	cargo build --workspace

release: setup ## Build ovagent, ovctl and the bench, optimised
	cargo build --release --workspace --bins

demo: setup ## Three hosts, two networks on one subnet, an agent killed under traffic: in under a minute
	cargo build --workspace --bins
	@target/debug/demo

test: setup lint doc ## Everything that CI checks: format, lints, documentation, all tests
	cargo build --workspace
	cargo test --workspace
	sh deploy/check-surface.sh

lint: setup ## Check format and lints; a warning is an error
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

fmt: ## Format the sources
	cargo fmt --all

doc: setup ## Build the documentation into target/doc; a warning is an error
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items

bench: release ## Measure attaches, traffic and memory; a table, and target/bench.json
	@target/release/bench --json target/bench.json

deb: setup ## Build the Debian package into target/debian
	sh deploy/package/build.sh

check-deb: deb ## Check the package by lintian (needs Debian's lintian)
	lintian --fail-on error,warning target/debian/ovnet_*.deb

test-vm: deb ## Test the package on real hosts: three virtual machines, emulated where there is no KVM; takes many minutes
	@bash integration/setup.sh vm
	nice cargo test -p ovnet-integration --test vm

completions: build ## Write ovctl's shell completions to target/completions
	@mkdir -p target/completions
	target/debug/ovctl completion bash > target/completions/ovctl.bash
	target/debug/ovctl completion zsh > target/completions/_ovctl
	target/debug/ovctl completion fish > target/completions/ovctl.fish

man: build ## Write ovctl's man pages to target/man
	@mkdir -p target/man
	target/debug/ovctl man target/man

vagrant-up: deb ## Bring the Vagrantfile up with a box built here, emulated, look at its overlay, and destroy it; takes minutes
	@bash integration/setup.sh vagrant
	deploy/vm/vagrant-up.sh

check-deploy: ## Check the Vagrantfile by `vagrant validate`
	@bash integration/setup.sh deploy
	sh deploy/vagrant-validate.sh

clean: ## Remove what was built
	cargo clean
