# scopereap: `sudo make run` tries it, `make test` tests it. See README.md.

GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GOARCH ?= $(shell $(GO) env GOARCH)
BIN ?= bin
LDFLAGS = -s -w -X main.version=$(VERSION)
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
# go test says "ok" of a package whose tests were skipped; this tells at the end which were, and why.
GOTESTSUM = gotest.tools/gotestsum@v1.13.0

# A Go that lies where its own installer puts it need not be on root's PATH.
export PATH := $(PATH):/usr/local/go/bin
# Static binaries: they run on every distribution, and in a container from scratch.
export CGO_ENABLED = 0

.PHONY: build all run test vmtest bench bench-scale figures lint man packages lint-packages test-packages lint-kubernetes security clean deps

build: deps
	GOARCH=$(GOARCH) $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/scopereapd ./cmd/scopereapctl

# Both architectures, for packages.
all: deps
	$(MAKE) build GOARCH=amd64 BIN=bin/amd64
	$(MAKE) build GOARCH=arm64 BIN=bin/arm64

run: build
	exec $(BIN)/scopereapd

# The man pages: of the programs from their own --help, the others from what they are about.
DATE = $(shell git log -1 --format=%cs 2>/dev/null)
man: deps
	$(GO) run -tags man ./cmd/scopereapd dist/man '$(VERSION)' '$(DATE)'
	$(GO) run -tags man ./cmd/scopereapctl dist/man '$(VERSION)' '$(DATE)'
	$(GO) run ./internal/manpage/pages dist/man '$(VERSION)' '$(DATE)'

# All fast tests. The race detector needs cgo.
test:
	@packaging/deps.sh test
	$(GO) test -C test/bench/report ./...
	CGO_ENABLED=$(RACE_CGO) $(GO) run $(GOTESTSUM) --format standard-quiet $(RERUN) --packages ./... -- $(RACE)

# Many tests run against this very machine's kernel, which reclaims and moves pages by itself and has others to serve.
# The few that fail are run once more, and the end names them; a data race never is.
RERUN = --rerun-fails=1 --rerun-fails-max-failures=5 --rerun-fails-abort-on-data-race --rerun-fails-run-root-test

# The race detector wants a C compiler; without one the tests run without it.
HAVE_CC := $(shell command -v gcc 2>/dev/null)
RACE = $(if $(HAVE_CC),-race,)
RACE_CGO = $(if $(HAVE_CC),1,0)

# End-to-end tests on real distributions in QEMU: SUITE=bookworm,trixie
# SCENARIO=core choose some, SHORT=1 leaves out what differs least. As root: it builds images.
vmtest:
	@packaging/deps.sh vm
	$(GO) test $(if $(SHORT),-short) -tags vm -count=1 -timeout 80m -v ./test/vm/...

# Figures of the VMs into docs/figures, one VM after another so that none disturbs the other's times: SUITE=trixie and
# SCENARIO=bench,growth,storm choose some. They come there also where a bound was missed, which fails in the end.
BENCH_OUT ?= out/bench
bench:
	@packaging/deps.sh vm
	@mkdir -p $(BENCH_OUT) docs/figures
	SUITE="$${SUITE:-bookworm,trixie,bullseye}" SCENARIO="$${SCENARIO:-bench,growth,storm}" \
	SCOPEREAP_VM_OUT="$(abspath $(BENCH_OUT))" \
	$(GO) test -tags vm -count=1 -parallel 1 -timeout 8h -v ./test/vm; bad=$$?; \
	find "$(BENCH_OUT)" \( -name '*-bench.json' -o -name '*-growth.json' -o -name '*-storm.json' \) \
		-exec cp -v {} docs/figures/ \; ; \
	$(MAKE) figures && exit $$bad

# The tables and plots of what is in docs/figures. A module of its own has what draws.
figures: deps
	cd test/bench/report && $(GO) run . "$(abspath docs/figures)"

# Sweeps 400,000 dying memcgs on this very machine, and one of 20 GiB, as root: COUNT=20000 BIG=1 are less (BIG in GiB).
COUNT = 400000
BIG = 20
bench-scale: build
	$(GO) build -o $(BIN)/bench-scale ./test/bench/scale
	$(BIN)/bench-scale -count $(COUNT) -big $(BIG) -daemon $(BIN)/scopereapd -out docs/figures
	$(MAKE) figures

lint: deps
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo 'run gofmt -w on these'; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags vm ./test/vm/...
	$(GO) vet -tags man ./cmd/...
	$(GO) run $(STATICCHECK) ./...
	$(GO) run $(STATICCHECK) -tags vm ./test/vm/...
	$(GO) vet -C test/bench/report ./...
	$(GO) run -C test/bench/report $(STATICCHECK) ./...

# The packages, deb and rpm, of the commit's version or VERSION=1.2.3. The same source makes the same bytes.
PACKAGE_VERSION = $(eval PACKAGE_VERSION := $(if $(filter file,$(origin VERSION)),$(shell packaging/version.sh),$(VERSION)))$(PACKAGE_VERSION)
packages: deps
	packaging/build.sh '$(PACKAGE_VERSION)' dist

lint-packages: packages
	@packaging/deps.sh packages
	packaging/lint.sh dist '$(PACKAGE_VERSION)'

# As root: it installs the packages in a tree of its own.
test-packages: packages
	@packaging/deps.sh packages
	packaging/reproducible.sh dist '$(PACKAGE_VERSION)'
	packaging/chroot-test.sh dist '$(PACKAGE_VERSION)'

# The sandbox's exposure as systemd rates it, in tenths: 1.5 at most.
security:
	@packaging/deps.sh packages
	systemd-analyze security --no-pager --offline=true --threshold=15 packaging/systemd/scopereapd.service
	systemd-analyze security --no-pager --offline=true --threshold=25 packaging/systemd/scopereap-pages.service

# contrib/kubernetes against the Kubernetes API, in a module of its own.
lint-kubernetes: deps
	cd contrib/kubernetes/tools && $(GO) vet ./... && $(GO) test ./... && $(GO) run ./check ../base ../overlays/canary ../overlays/fleet

deps:
	@packaging/deps.sh

clean:
	rm -rf bin dist
