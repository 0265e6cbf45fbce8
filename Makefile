# Posthouse. `make` lists what there is.

GO      ?= go
FUZZTIME ?= 60s
# Folder or file URL of a Go vulnerability database, for machines without a network: make lint GOVULNDB=file:///srv/gvdb
GOVULNDB ?=
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo development)
# Arguments for the node: make run ARGS="--set log.level=debug"
ARGS    ?=

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/posthouse and bin/posthouse-bench
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-X main.release=$(VERSION)" -o bin/ ./cmd/...

.PHONY: run
run: build ## Build, and run a node on loopback ports with its data in ./data
	@exec bin/posthouse serve $(ARGS)

.PHONY: test
test: ## Install what the tests need, vet, and run all tests with the race detector
	test/setup.sh
	@unformatted=$$(git ls-files -co --exclude-standard '*.go' | xargs gofmt -l); \
	if [ -n "$$unformatted" ]; then echo "not formatted (gofmt -w FILE):"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) test -race -timeout 20m ./...

.PHONY: bench
bench: ## Measure a node of its own: idle sessions, logins, messages (see bench/README.md)
	bench/compare.sh

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (60s) each
	@GO="$(GO)" test/fuzz.sh $(FUZZTIME)

.PHONY: nightly
nightly: ## Run what is too long for make test, in at most 90 minutes: fuzzing, durability, bench
	test/setup.sh
	@GO="$(GO)" test/nightly.sh

.PHONY: lint
lint: ## Run golangci-lint, and govulncheck when GOVULNDB is set
	$(GO) tool -modfile=tools/go.mod golangci-lint run ./...
	@if [ -n "$(GOVULNDB)" ]; then \
		echo "govulncheck, database $(GOVULNDB)"; \
		$(GO) tool -modfile=tools/go.mod govulncheck -test -db "$(GOVULNDB)" ./...; \
	else echo "govulncheck not run: set GOVULNDB=https://vuln.go.dev or file:///FOLDER"; fi

.PHONY: docs
docs: ## Write the tables of settings and metrics in docs/ anew from the source
	$(GO) test ./node -run '^TestConfigurationReference$$' -update
	$(GO) test ./test/operations -run '^TestMetricsReference$$' -update
