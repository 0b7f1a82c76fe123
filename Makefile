# make demo    the main job on sample data, no network
# make test    everything this machine can check
# make venv    only .venv/bin/drypoint

SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete

# What drypoint runs: libext2fs, e2fsck and resize2fs; mtools reads the boot partition.
RUNTIME_PACKAGES := e2fsprogs mtools
DEMO_PACKAGES := dosfstools fdisk
# The judges: a real engine, a real registry, and the tools that read tables and file systems.
TEST_PACKAGES := 7zip docker.io docker-registry debootstrap acl attr bmap-tools bsdextrautils btrfs-progs bzip2 ca-certificates \
	cryptsetup-bin f2fs-tools gdisk genimage libarchive-tools libcap2-bin lz4 procps \
	qemu-utils strace tar-split unzip xz-utils zip zstd

.PHONY: venv bench demo test lint unit judged engine test-engines docs bindings fuzz fuzz-quick lock clean

venv: $(STAMP)

$(STAMP): requirements/dev.txt pyproject.toml Makefile
	@scripts/debian-packages "drypoint" $(RUNTIME_PACKAGES) $(shell $(PYTHON) -c 'import ensurepip' 2>/dev/null || echo python3-venv)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "drypoint needs Python 3.11 or later; name one with make PYTHON=..." >&2; exit 1; }
	@echo "setting up $(VENV)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/dev.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $(STAMP)

demo: venv
	@scripts/debian-packages "the demo" $(DEMO_PACKAGES)
	@$(BIN)/drypoint demo demo

# Every stage runs, so that one run shows all that fails.
test: venv
	@failed=; for stage in lint fuzz-quick unit judged engine; do $(MAKE) --no-print-directory $$stage || failed="$$failed $$stage"; done; \
		[ -z "$$failed" ] || { echo "make test: failed:$$failed" >&2; exit 1; }

lint: venv
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

# No tools, no root.
unit: venv
	@$(BIN)/pytest -n 2 tests/unit

# Judged by tools of this machine: e2fsprogs, mtools, sfdisk, tar and others.
judged: venv
	@scripts/debian-packages "the judged tests" $(DEMO_PACKAGES) $(TEST_PACKAGES) || true
	@$(BIN)/pytest -n 2 tests/judged

# Judged by real engines and registries; needs root.
engine: venv
	@scripts/debian-packages "the tests with a real engine" $(DEMO_PACKAGES) $(TEST_PACKAGES) || true
	@$(BIN)/pytest tests/engine

# Part of "engine": the tests with engines of other versions, which debootstrap makes the first time (about two minutes).
test-engines: venv
	@scripts/debian-packages "the tests with other engines" $(DEMO_PACKAGES) $(TEST_PACKAGES) || true
	@$(BIN)/pytest -m engines tests

docs: venv
	@$(BIN)/python scripts/cli_reference.py > docs/reference/cli.md
	@$(BIN)/python scripts/findings_reference.py > docs/reference/findings.md

# The declarations of libext2fs, in the form that needs no parser at every start.
bindings: venv
	@$(BIN)/python scripts/libext2fs_declarations.py > src/drypoint/disk/ext4/write/_libext2fs.py

# Looks for inputs that the parsers of hostile data cannot bear: make fuzz SECONDS=600 (for each target), TARGETS="tar ext4".
SECONDS ?= 60
TARGETS ?= all
fuzz: venv
	@$(BIN)/python -m tests.fuzz.run $(TARGETS) --seconds $(SECONDS)

# The same for a few seconds each. Without a fuzzer for this Python it says so, and is no failure.
fuzz-quick: venv
	@$(BIN)/python -m tests.fuzz.run all --seconds 3 --optional

# The whole job against the engine's way, skopeo, podman and C programs: root, over an hour, 40 GB. See docs/performance.md.
bench: venv
	@scripts/debian-packages "the benchmark" $(DEMO_PACKAGES) $(TEST_PACKAGES) isal openssl skopeo podman curl npm
	@$(BIN)/python -m benchmarks.contest

# Renews the hashed exports after a change of dependencies in pyproject.toml. Needs uv.
lock:
	UV_PYTHON_DOWNLOADS=never uv lock --upgrade
	uv export --quiet --no-emit-project --no-header --format requirements.txt --no-dev --output-file requirements/runtime.txt
	uv export --quiet --no-emit-project --no-header --format requirements.txt --output-file requirements/dev.txt

clean:
	rm -rf $(VENV) demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
