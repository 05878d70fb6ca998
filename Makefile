# `make` lists what there is to do.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help build demo setup python ort-training print-python test test-pure test-real fuzz fuzz-graphs bench acceptance lint generate clean

GO       ?= go
FUZZTIME ?= 10m
SEEDS    ?= 3
# More flags for go test, such as -v or -count=1.
TESTFLAGS ?=

cache  := $(or $(EBMRUN_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/ebmrun)
venv   := $(cache)/python
python := $(or $(EBM_PYTHON),$(venv)/bin/python)

help: ## list the targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

build: ## build bin/ebmrun
	$(GO) build -o bin/ebmrun ./cmd/ebmrun

demo: build ## learn handwritten digits from nothing; results in demo/
	bin/ebmrun demo --out demo

setup: build
ifndef EBM_NO_SETUP
	bin/ebmrun setup
endif

# The interpreter that re-runs exported files: a second reader, not needed to build or to use anything.
python:
ifndef EBM_PYTHON
ifndef EBM_NO_SETUP
	@if command -v python3 >/dev/null && ! $(venv)/bin/python -c 'import numpy, onnxruntime' 2>/dev/null; then \
	    echo "python: onnxruntime 1.24.4 in $(venv), to check exported files with"; \
	    { python3 -m venv --clear $(venv) && $(venv)/bin/pip install -q onnxruntime==1.24.4 numpy; } || \
	    echo "python: not to be had; tests that need it are skipped" >&2; \
	fi
endif
endif

# A second source of gradients, to judge ours by; where no Python fits its tests are skipped.
ort-training: build
ifndef EBM_NO_SETUP
	@bin/ebmrun setup --ort-training || echo "ort-training: not to be had; tests that need it are skipped" >&2
endif

print-python:
	@echo $(python)

test: setup python ort-training ## obtain ONNX Runtime (set EBM_NO_SETUP=1 not to), then run every test
	@if $(python) -c 'import numpy, onnxruntime' 2>/dev/null; then export EBM_PYTHON=$(python); fi; \
	set -x; $(GO) test $(TESTFLAGS) ./...

test-pure: ## run the tests that need neither a C compiler nor a native library
	env -u EBM_REQUIRE_ORT CGO_ENABLED=0 $(GO) test $(TESTFLAGS) ./graphs/... ./training/...

test-real: setup ## networks on their real weights against PyTorch and differences, and files exported from them (obtains 180 MB once)
	EBMRUN_TEST_DATA=1 EBM_REQUIRE_ORT=1 $(GO) test $(TESTFLAGS) -count=1 -run Networks ./training/data
	EBMRUN_TEST_DATA=1 EBM_REQUIRE_ORT=1 $(GO) test $(TESTFLAGS) -count=1 ./onnxmodels/backbone ./export/verify

fuzz: ## fuzz every reader, FUZZTIME (10m) each
	@grep -rE --include='*_test.go' '^func Fuzz' . | sed -E 's|^\./(.*)/[^/]*:func (Fuzz[A-Za-z0-9]*).*|\1 \2|' | sort | \
	while read -r pkg target; do (set -x; $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x "./$$pkg"); done

fuzz-graphs: ## random graphs against differences and before and after every pass, FUZZTIME (10m), from the seed EBM_SEED
	EBM_RANDOM_GRAPHS=$(FUZZTIME) $(GO) test $(TESTFLAGS) -count=1 -timeout 0 -v -run '^TestRandomGraphs$$' ./graphs/autodiff

bench: ## measure every workload in MINUTES (15), with EBM_TORCH=python beside other programs; BENCH=pattern: Go benchmarks
ifdef BENCH
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem ./...
else
	python3 bench/measure.py --minutes $(or $(MINUTES),15)
endif

acceptance: setup ## every learning system beside its sabotaged arms, SEEDS (3) seeds, tables in acceptance/ (minutes each)
	@status=0; for system in $$(bin/ebmrun verify --list); do \
	    echo "$$system"; bin/ebmrun verify "$$system" --seeds $(SEEDS) --out acceptance || status=1; \
	done; exit $$status

lint: ## gofmt, go vet, a build without cgo, and golangci-lint where it is installed
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "gofmt: $$unformatted" >&2; exit 1; fi
	$(GO) vet ./...
	CGO_ENABLED=0 $(GO) build ./...
	@if command -v golangci-lint >/dev/null; then set -x; golangci-lint run; else echo "golangci-lint: not installed, skipped"; fi

generate: ## rewrite generated files (needs protoc and protoc-gen-go)
	$(GO) generate ./...

clean: ## remove what make built, the demo's run folder and the acceptance tables
	rm -rf bin demo acceptance
