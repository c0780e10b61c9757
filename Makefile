# What a user, a developer and CI run: the same.

MODULE := github.com/caddydevice/device-auth

# at the versions that tools/go.mod names
bin/xcaddy: tools/go.sum
	@cd tools && go build -o ../$@ github.com/caddyserver/xcaddy/cmd/xcaddy

bin/golangci-lint: tools/go.sum
	@cd tools && go build -o ../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

.PHONY: demo build test test-unit deps lint

## demo: Caddy with the gate, an identity provider and an upstream, on loopback
demo:
	@cd examples/demo && go run .

## build: bin/caddy, as a user builds it
build: bin/xcaddy
	bin/xcaddy build --output bin/caddy --with $(MODULE)@v0.0.0=.

## test: all tests with the race detector; installs what the real parts need
test:
	@tools/test.sh

## test-unit: the fast part, nothing to install
test-unit:
	go test ./...

## deps: what the real parts of the tests need (Debian and root)
deps:
	@tools/deps.sh

## lint: the linters and the formatters of .golangci.yml
lint: bin/golangci-lint
	@for dir in . examples/demo e2e; do \
		echo "lint $$dir"; \
		(cd $$dir && $(CURDIR)/bin/golangci-lint run --config $(CURDIR)/.golangci.yml ./...) || exit 1; \
	done
