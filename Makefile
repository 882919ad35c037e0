# What can be done here. `make check` and `make test` are what CI runs.
PYTHON ?= python3
VENV := .venv
REQUIREMENTS := tests/support/requirements.txt
INFRA_VENV := .venv-infra
INFRA_REQUIREMENTS := tests/infra/requirements.txt
CHECKOV_VENV := .venv-checkov
CHECKOV_REQUIREMENTS := tests/infra/checkov.txt
NPM := target/npm
STATSD := statsd@0.9.0
# Both run on Node.js 18, which is Debian's.
BROWSER := playwright-core@1.61.0 axe-core@4.14.1
# Pictures of the page that the documents show, by the names that the tests give them.
SCREENSHOTS := zero-light-wide booting-light-wide busy-light-wide busy-dark-wide busy-light-narrow login-light-wide
# What tests could not check, for want of a program: see tests/support/tool.rs.
NOT_CHECKED := $(or $(CARGO_TARGET_DIR),target)/tmp/not-checked

# Tests read what other targets write.
.NOTPARALLEL:

.PHONY: help demo test rust-test browser-test screenshots infra-test terraform-check check bench soak venv npm clean

help:
	@echo "make demo    from zero to an answer and back to zero, with a real llama.cpp and a tiny model"
	@echo "make test    every test: the core, the simulator, the gateway in front of a real llama.cpp, the infrastructure"
	@echo "make browser-test      the page in a headless Chromium; pictures of it go to target/screenshots"
	@echo "make screenshots       takes the documents' pictures of the page anew: docs/images"
	@echo "make terraform-check   the Terraform module: format, validate, test, lint; offline where the provider cannot be fetched"
	@echo "make infra-test        user data, units, policies, boot scripts, boards: what the instances get"
	@echo "make check   formatting, lints, licenses and advisories, documentation"
	@echo "make bench   the figures of BENCHMARKS.md"
	@echo "make soak    ten minutes of mixed load and restarts (PADDOCK_SOAK_SECONDS): nothing grows"
	@echo "make venv    Python with llama.cpp's server and moto's AWS, for the tests and the demo"
	@echo "make npm     a statsd server, and what drives a browser, for the tests"
	@echo "make clean   removes what was built"

demo:
	scripts/demo.sh

test: rust-test browser-test terraform-check infra-test

rust-test: venv npm
	@rm -f $(NOT_CHECKED)
	@if cargo nextest --version >/dev/null 2>&1; then \
		cargo nextest run --no-fail-fast; \
	else \
		cargo test --no-fail-fast --lib --bins --tests; \
	fi; status=$$?; \
	if [ -e $(NOT_CHECKED) ]; then sort -u $(NOT_CHECKED) >&2; fi; \
	exit $$status
	cargo test --doc

# The program is built as the other tests build it. The list of files, for Node.js takes a folder for a module.
browser-test: npm
	cargo test --quiet --no-run --test it
	node --test --test-concurrency=2 --test-reporter=spec tests/browser/*.test.mjs

screenshots: browser-test
	@mkdir -p docs/images
	@for name in $(SCREENSHOTS); do cp target/screenshots/$$name.png docs/images/page-$$name.png; done

terraform-check: $(INFRA_VENV)/.stamp $(CHECKOV_VENV)/.stamp
	@$(INFRA_VENV)/bin/python scripts/infra/check.py

infra-test: $(INFRA_VENV)/.stamp
	cargo test --quiet --no-run --test it
	@$(INFRA_VENV)/bin/python scripts/infra/render.py
	$(INFRA_VENV)/bin/python -m unittest discover -s tests/infra

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
	cargo bench --bench decision --bench handover --bench wake --bench peers --bench watchers

soak:
	cargo bench --bench soak

venv: $(VENV)/.stamp

# The stamp comes last: a venv without it is half made, and made anew.
define make_venv
	@rm -rf $(@D)
	@$(PYTHON) -m venv $(@D) || { rm -rf $(@D); \
		echo "make $@: '$(PYTHON) -m venv' failed: install Python 3.11 or later with its venv module (Debian: apt-get install python3-venv)" >&2; \
		exit 1; }
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@
endef

$(VENV)/.stamp: $(REQUIREMENTS)
	$(make_venv)

npm: $(NPM)/.stamp

# Their versions stand here.
$(NPM)/.stamp: Makefile
	@command -v npm >/dev/null || { echo "make npm: install Node.js with npm first (Debian: apt-get install nodejs npm)" >&2; exit 1; }
	npm install --silent --no-audit --no-fund --no-save --omit=optional --prefix $(NPM) $(STATSD) $(BROWSER)
	@touch $@

$(INFRA_VENV)/.stamp: $(INFRA_REQUIREMENTS)
	$(make_venv)

$(CHECKOV_VENV)/.stamp: $(CHECKOV_REQUIREMENTS)
	$(make_venv)

clean:
	cargo clean
	rm -rf $(VENV) $(INFRA_VENV) $(CHECKOV_VENV)
