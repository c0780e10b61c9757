#!/bin/sh
# Installs what the real parts of the tests need: a C compiler for the race
# detector; curl, wget, HTTPie and a terminal to run them in; a QR reader, and
# ImageMagick for photographs of QR codes; Chromium, and axe-core for what it
# shows; Python with requests, git and kubectl for the examples in a terminal;
# Prometheus; and three identity providers with what they run on (Node.js; Java
# and Maven for Keycloak, and for Spring's, which is built from examples/spring).
# On Debian and as root it does so itself; elsewhere it prints what is missing.
# It ends with 0 only when everything is there.
set -u
cd "$(dirname "$0")/.." || exit 1
PATH=$PWD/bin/node/node_modules/node/bin:$PATH

lacks() { ! command -v "$1" >/dev/null 2>&1; }

node_too_old() { [ "$(node -p 'process.versions.node.split(".")[0]')" -lt 20 ]; }

# has_requests looks for Python where the tests do: Debian's comes first
has_requests() { PATH=/usr/bin:/bin:$PATH python3 -c 'import requests' 2>/dev/null; }

install() {
	if [ "$(id -u)" = 0 ] && ! lacks apt-get; then
		echo "installing $1"
		[ -n "${updated:-}" ] || apt-get update -qq
		updated=1
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >/dev/null
	fi
}

# need <command> <Debian package>: npm comes last, since some builds of nodejs
# bring it along
missing=""
need() {
	lacks "$1" || return 0
	install "$2"
	lacks "$1" && missing="$missing $2"
}
need gcc build-essential
need curl curl
need wget wget
need http httpie
need script bsdutils
need zbarimg zbar-tools
need mogrify imagemagick # others have a convert, too
need chromium chromium # it depends on fontconfig, and that on a font
need python3 python3
need flock util-linux
need git git
need kubectl kubernetes-client
need node nodejs
need npm npm
need java default-jre-headless
need javac default-jdk-headless
need mvn maven
need promtool prometheus
has_requests || install python3-requests
has_requests || missing="$missing python3-requests"
if [ -n "$missing" ]; then
	echo "missing:$missing (Debian's names; install them and run this again)"
	exit 1
fi

# Debian 12 has Node.js 18, which the identity provider does not run on
if node_too_old; then
	npm install --prefix bin/node --no-save --no-audit --no-fund --loglevel=error node@22 || exit 1
	hash -r # the shell remembers where the old one was
	if node_too_old; then
		echo "missing: Node.js 20 or newer (this is $(node --version))"
		exit 1
	fi
fi

# the packages of the identity provider and of axe-core, exactly as locked
for dir in e2e/oidcprovider e2e/axe; do
	if ! cmp -s $dir/package-lock.json $dir/node_modules/.locked; then
		npm --prefix $dir ci --no-audit --no-fund --loglevel=error || exit 1
		cp $dir/package-lock.json $dir/node_modules/.locked
	fi
done

# Keycloak, as Maven has it, outside the repository: every clone shares it
keycloak=26.7.4
cache=${XDG_CACHE_HOME:-$HOME/.cache}/caddydevice
if [ ! -x "$cache/keycloak-$keycloak/bin/kc.sh" ]; then
	echo "fetching Keycloak $keycloak"
	mkdir -p "$cache/fetch" || exit 1
	(cd "$cache/fetch" && mvn -q -B dependency:unpack -DoutputDirectory="$cache/fetch" \
		-Dartifact=org.keycloak:keycloak-quarkus-dist:$keycloak:zip) || exit 1
	mv "$cache/fetch/keycloak-$keycloak" "$cache/" && rm -rf "$cache/fetch" || exit 1
fi
ln -sfn "keycloak-$keycloak" "$cache/keycloak" || exit 1

# what examples/spring is built of: the test builds it anew, from Maven's cache
spring=$cache/spring
if ! cmp -s examples/spring/pom.xml "$spring/pom.xml"; then
	echo "fetching what examples/spring is built of"
	rm -rf "$spring" && cp -R examples/spring "$spring" || exit 1
	mvn -q -B -f "$spring/pom.xml" package || { rm -rf "$spring"; exit 1; }
fi
