# What can be done here. `make check` and `make test` are what CI runs.
PYTHON ?= python3
VENV := .venv
REQUIREMENTS := tests/support/requirements.txt

.PHONY: help demo test check bench soak venv clean

help:
	@echo "make demo    from zero to an answer and back to zero, with a real llama.cpp and a tiny model"
	@echo "make test    every test: the core, the simulator, the gateway in front of a real llama.cpp"
	@echo "make check   formatting, lints, licenses and advisories, documentation"
	@echo "make bench   the figures of BENCHMARKS.md"
	@echo "make soak    ten minutes of mixed load and restarts (PADDOCK_SOAK_SECONDS): nothing grows"
	@echo "make venv    Python with llama.cpp's server and moto's AWS, for the tests and the demo"
	@echo "make clean   removes what was built"

demo:
	scripts/demo.sh

test: venv
	@if cargo nextest --version >/dev/null 2>&1; then \
		cargo nextest run --no-fail-fast; \
	else \
		cargo test --no-fail-fast --lib --bins --tests; \
	fi
	cargo test --doc

check:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	@if cargo deny --version >/dev/null 2>&1; then \
		cargo deny check; \
	else \
		echo "cargo-deny is not installed: licenses and advisories are not checked"; \
	fi
	RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps --document-private-items

bench:
	cargo bench --bench decision --bench handover --bench wake --bench peers

soak:
	cargo bench --bench soak

venv: $(VENV)/.stamp

# The stamp comes last: a venv without it is half made, and made anew.
$(VENV)/.stamp: $(REQUIREMENTS)
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "make venv: '$(PYTHON) -m venv' failed: install Python 3.11 or later with its venv module (Debian: apt-get install python3-venv)" >&2; \
		exit 1; }
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $(REQUIREMENTS)
	@touch $@

clean:
	cargo clean
	rm -rf $(VENV)
