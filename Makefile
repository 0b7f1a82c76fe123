# make demo    the main job on sample data, no network
# make test    everything this machine can check
# make venv    only .venv/bin/drypoint
# make lanes   its compiled lanes, once more after a change of their sources
# make wheels  wheels for Python 3.11 to 3.14, x86-64 and arm64, in wheels/; needs Docker

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
BENCH_PACKAGES := isal openssl skopeo podman curl npm
# What a target needs beyond these it adds, so that all that is missing is named at once. Tests go on without what is OPTIONAL.
REQUIRED = $(RUNTIME_PACKAGES) $(if $(wildcard $(STAMP)),,$(VENV_PACKAGE))
VENV_PACKAGE = $(shell $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv)
OPTIONAL :=
PURPOSE := drypoint

# Compiled where there is a compiler; LANES=require insists, LANES=none does without.
LANES ?=
LANE_SOURCES := hatch_build.py $(shell find src/drypoint -name '*.pyx' -o -name '*.pxd' -o -name '*.h')
LANES_STAMP := $(VENV)/.lanes

.PHONY: packages venv lanes wheels wheels-here bench demo test lint unit unit-pure leaves judged engine test-engines \
	fresh docs bindings fuzz fuzz-quick lock clean

# Once for each run of make, however many stages that has.
packages:
	@if command -v $(PYTHON) >/dev/null; then $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))'; \
		else [ $(PYTHON) = python3 ]; fi || \
		{ echo "drypoint needs Python 3.11 or later, and $(PYTHON) is not one; name one with make PYTHON=..." >&2; exit 1; }
	@$(if $(PACKAGES_CHECKED),:,scripts/debian-packages "$(PURPOSE)" $(REQUIRED) -- $(OPTIONAL))

venv: $(STAMP) $(LANES_STAMP)

lanes: venv

$(LANES_STAMP): $(STAMP) $(LANE_SOURCES)
	@DRYPOINT_LANES=$(LANES) $(BIN)/python hatch_build.py
	@touch $@

$(STAMP): requirements/dev.txt pyproject.toml Makefile | packages
	@echo "setting up $(VENV)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/dev.txt
	@DRYPOINT_LANES=none $(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $(STAMP)

demo: PURPOSE := the demo
demo: REQUIRED += $(DEMO_PACKAGES)
demo: venv
	@$(BIN)/drypoint demo demo

# Every stage runs, so that one run shows all that fails.
test judged engine test-engines: PURPOSE := the whole test suite
test judged engine test-engines: OPTIONAL := $(DEMO_PACKAGES) $(TEST_PACKAGES)
test: venv
	@failed=; for stage in lint leaves fuzz-quick unit unit-pure judged engine; do \
		$(MAKE) --no-print-directory PACKAGES_CHECKED=1 $$stage || failed="$$failed $$stage"; done; \
		[ -z "$$failed" ] || { echo "make test: failed:$$failed" >&2; exit 1; }

lint: venv
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

# No tools, no root.
unit: venv
	@$(BIN)/pytest -n 2 tests/unit

# What has a compiled lane, once more by its Python twin; the tests of lanes themselves have none.
unit-pure: venv
	@DRYPOINT_PURE=1 $(BIN)/pytest -n 2 --ignore-glob='*_lane.py' $(TWINS)

TWINS := tests/unit/layers tests/unit/sinks tests/unit/verification

# The C that lanes call, under the address and undefined behaviour sanitizers, on buffers without a byte to spare.
leaves: venv
	@scripts/check-leaves

# Judged by tools of this machine (e2fsprogs, mtools, sfdisk, tar and others), by thousands of recorded verdicts of Supervisors, and
# compiled lanes by their Python twins.
judged: venv
	@$(BIN)/pytest -n 2 tests/judged

# Judged by real engines and registries; needs root.
engine: venv
	@$(BIN)/pytest tests/engine

# Part of "engine": the tests with engines of other versions, which debootstrap makes the first time (about two minutes).
test-engines: venv
	@$(BIN)/pytest -m engines tests

# The two commands and a wheel as on new machines, of the last commit: Debian systems (root) and each Python at hand. About six
# minutes; the first time debootstrap makes the systems, about two more.
fresh: PURPOSE := the trial on new machines
fresh: OPTIONAL := debootstrap git
fresh: venv
	@$(BIN)/python -m tests.fresh.run

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
bench: PURPOSE := the benchmark
bench: REQUIRED += $(DEMO_PACKAGES) $(TEST_PACKAGES) $(BENCH_PACKAGES)
bench: venv
	@$(BIN)/python -m benchmarks.contest

# One command for all wheels. aarch64 on x86-64 is emulated: docker run --privileged --rm tonistiigi/binfmt --install arm64.
CIBUILDWHEEL := cibuildwheel==4.3.5
wheels: venv
	@$(PYTHON) -m venv build/cibuildwheel
	@build/cibuildwheel/bin/pip install --quiet --disable-pip-version-check '$(CIBUILDWHEEL)'
	@build/cibuildwheel/bin/cibuildwheel --platform linux --output-dir wheels .

# Without Docker: wheels for this machine and the Pythons at hand, which are not for other distributions.
PYTHONS ?= python3.11 python3.12 python3.13 python3.14
wheels-here:
	@for python in $(PYTHONS); do $$python -c '' 2>/dev/null || continue; \
		DRYPOINT_LANES=require $$python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir wheels . || exit 1; done
	@ls wheels

# Renews the hashed exports after a change of dependencies in pyproject.toml. Needs uv.
lock:
	UV_PYTHON_DOWNLOADS=never uv lock --upgrade
	uv export --quiet --no-emit-project --no-header --format requirements.txt --no-dev --output-file requirements/runtime.txt
	uv export --quiet --no-emit-project --no-header --format requirements.txt --output-file requirements/dev.txt
	uv export --quiet --no-emit-project --no-header --format requirements.txt --only-group sbom --output-file requirements/sbom.txt

# What a release depends on, from the lock: dist/drypoint.cdx.json, a CycloneDX 1.6 document, the same bytes each time.
SBOM_VENV := $(VENV)-sbom
sbom: $(SBOM_VENV)/.complete
	@mkdir -p dist
	@$(SBOM_VENV)/bin/cyclonedx-py requirements requirements/runtime.txt --pyproject pyproject.toml --mc-type application \
		--spec-version 1.6 --output-reproducible --output-file dist/drypoint.cdx.json 2>/dev/null
	@echo "wrote dist/drypoint.cdx.json"

$(SBOM_VENV)/.complete: requirements/sbom.txt
	@rm -rf $(SBOM_VENV)
	@$(PYTHON) -m venv $(SBOM_VENV)
	@$(SBOM_VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/sbom.txt
	@touch $@

clean:
	rm -rf $(VENV) $(SBOM_VENV) dist demo build wheels .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src -name '*.so' -delete
	rm -f src/drypoint/lanes/built*
