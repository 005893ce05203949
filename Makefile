# `make help` says what can be made. All of it runs as root on Debian 12 and installs what it needs.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

build := build
agent := $(build)/compute-agent

.PHONY: help
help: ## say what can be made
	@echo 'make TARGET, with TARGET one of'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## install the Debian packages of packages.txt that are missing
	@scripts/setup packages

.PHONY: build
build: setup ## build the agent into build/
	@mkdir -p $(build)
	go build -trimpath -o $(agent) ./cmd/compute-agent

.PHONY: demo
demo: build ## start an agent and a server on it, and say how to go on
	@scripts/demo up

.PHONY: demo-down
demo-down: ## remove all that the demo made
	@scripts/demo down

.PHONY: test
test: build ## run all tests, on the fake driver and on a real libvirtd with real guests
	@test/run

.PHONY: lab-test
lab-test: build ## run the tests that need NUMA nodes and a full kernel, in a virtual machine made for them
	@scripts/setup lab
	@go run ./test/lab

.PHONY: check
check: setup ## gofmt, vet, lint, shellcheck, import policy, race detector
	@scripts/setup lint
	@scripts/check

.PHONY: bench
bench: build ## measure the figures that the README names
	@test/bench/run

.PHONY: pages
pages: ## renew the viewers of the console pages from the packages that scripts/pages names
	@scripts/pages

.PHONY: pictures
pictures: setup ## take the pictures of the console pages in docs/ anew, of a real guest
	go test ./test/browser -count=1 -run 'TestBrowser/(serial|vnc)' -args -screenshots "$(CURDIR)/docs"

.PHONY: golden
golden: setup ## rewrite the golden files; read the diff
	@scripts/golden

.PHONY: clean
clean: ## remove what was built; the caches of the tiny guest and of the lint tool stay
	rm -rf $(build)
