# What there is to do on a fresh Debian with Rust, as root:
#   make demo   a guest live-migrates between real chassis; report in target/demo/
#   make test   every test, on real Open vSwitch, OVN and QEMU
#   make chaos  everything killed at every step of a migration; report in target/chaos/

CARGO ?= cargo

.PHONY: demo test chaos lint build prerequisites

demo: build
	target/debug/limosa-lab demo --out target/demo

test: build
	$(CARGO) test --workspace --no-fail-fast

chaos: build
	target/debug/limosa-lab chaos --out target/chaos

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

build: prerequisites
	$(CARGO) build --workspace --bins

prerequisites:
	@sh integration/install.sh
