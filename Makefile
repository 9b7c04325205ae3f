# The front door. `make help` lists what there is; CI calls the same targets.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help lint style fmt test interop examples test-rabbitmq4 contracts demo up down bench contact-sheet fuzz arm generate man images compose-test k8s-test alerts-test dashboards-test upgrade-test release servers servers-stop demo-build

help: ## this list
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 17

lint: style ## formatting, clippy, dependency rules, the house style; warnings are errors
	cargo clippy --workspace --all-targets -- -D warnings

style: ## what `lint` sees without compiling
	cargo fmt --all --check
	scripts/cargo-deny.sh check bans licenses sources
	scripts/lint.sh

fmt: ## format everything
	cargo fmt --all

test: ## every test of the workspace against real servers, which it starts and stops
	scripts/test.sh

interop: ## other people's programs: RunPod's SDKs, Standard Webhooks, schemathesis, the examples
	scripts/interop.sh test

examples: ## the programs of docs/examples, each run against the real services (what its language is there for)
	scripts/interop.sh examples

test-rabbitmq4: ## the AMQP tests against RabbitMQ 4.3 in a chroot (root, 80 MB)
	scripts/rabbitmq4.sh test

contracts: ## docs/contracts/asyncapi.yaml, read by AsyncAPI's own parser (npm, 55 MB)
	scripts/contracts.sh

servers: ## start RabbitMQ and Redis for tests (data under .dev/test)
	scripts/servers.sh start .dev/test

servers-stop: ## stop them and delete their data
	scripts/servers.sh clean .dev/test

# `make demo demo_profile=dev` takes the programs that `make test` built.
demo_profile := demo
demo_programs := target/$(if $(filter dev,$(demo_profile)),debug,$(demo_profile))
demo_packages := $(addprefix --package photofinish-,ingest dispatcher fetcher notifier worker cli runpod-sim kit demo)
demo-build:
	cargo build --profile $(demo_profile) --bins $(if $(filter dev,$(demo_profile)),--tests --workspace,$(demo_packages))

demo: demo-build ## the main job, end to end: services, servers and an emulated RunPod; at most 3 minutes after the build
	$(demo_programs)/photofinish-demo demo

up: demo-build ## start the same and leave it running; writes .dev/env
	$(demo_programs)/photofinish-demo up

down: ## stop what `up` started, also after a crash
	test -x $(demo_programs)/photofinish-demo || $(MAKE) demo-build
	$(demo_programs)/photofinish-demo down

bench: ## measure, against other people's programs in the same run; results in target/bench/results.json
	scripts/bench.sh

contact-sheet: ## frames of every motion and fit, and captions in six scripts, as target/contact-sheet.png
	scripts/fonts.sh
	cargo build --package photofinish-worker --bins --examples
	target/debug/examples/contact_sheet

fuzz: ## the readers of captions and of job requests, fed nonsense for a minute each
	scripts/fuzz.sh

arm: ## the renderer's vector instructions for ARM, on an emulated one (needs a cross compiler)
	scripts/arm.sh

images: ## every container image: built, measured and run as in production (a Docker engine, or root)
	scripts/images.sh

compose-test: ## docker-compose.yml for real: the demo's jobs through containers, two of them killed on the way
	scripts/compose-test.sh

k8s-test: ## the manifests of k8s/: rendered, schemas, checkov and our own cross-checks; needs no cluster
	scripts/k8s-test.sh test

alerts-test: ## every alert fires when it must and only then (promtool)
	scripts/alerts-test.sh rules

dashboards-test: ## every panel asked of a real Prometheus that scrapes a real run (programs of `make test`)
	scripts/alerts-test.sh dashboards

upgrade-test: ## the version before and this one side by side, rolled one by one while jobs flow
	scripts/upgrade-test.sh

release: ## static programs as archives with checksums and an SBOM, in target/dist
	scripts/release.sh

man: ## man pages of the command line, into target/man
	scripts/man.sh

generate: ## write docs/contracts and what else is generated
	scripts/generate.sh
