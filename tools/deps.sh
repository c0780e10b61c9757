#!/bin/sh
# Installs what the real parts of the tests need: a C compiler for the race
# detector, curl, a QR reader, Node.js for the identity provider. On Debian and
# as root it does so itself; elsewhere it prints what is missing. It ends with
# 0 only when everything is there.
set -u
cd "$(dirname "$0")/.." || exit 1

# command, Debian package
needs='gcc gcc
curl curl
zbarimg zbar-tools
node nodejs
npm npm'

missing() {
	echo "$needs" | while read -r command package; do
		command -v "$command" >/dev/null 2>&1 || printf ' %s' "$package"
	done
}

packages=$(missing)
if [ -n "$packages" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
	echo "installing:$packages"
	# shellcheck disable=SC2086 # a list of packages
	{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages libc6-dev; } >/dev/null || exit 1
	packages=$(missing)
fi
if [ -n "$packages" ]; then
	echo "missing:$packages (Debian's names; install them and run this again)"
	exit 1
fi
if [ "$(node -p 'process.versions.node.split(".")[0]')" -lt 20 ]; then
	echo "missing: Node.js 20 or newer (this is $(node --version))"
	exit 1
fi

# the identity provider's packages, exactly as locked
if ! cmp -s e2e/oidcprovider/package-lock.json e2e/oidcprovider/node_modules/.locked; then
	npm --prefix e2e/oidcprovider ci --no-audit --no-fund --loglevel=error || exit 1
	cp e2e/oidcprovider/package-lock.json e2e/oidcprovider/node_modules/.locked
fi
