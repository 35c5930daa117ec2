#!/bin/sh
# Builds the kube-apiserver that the tests start, from Debian 12's own source
# package, with Debian 12's Go. Nothing is installed: the packages are unpacked
# next to the sources and go away with them, and apt works on files of its own.
# So Debian 13 will do as well, whose own sources are another program. It says
# nothing when the program is there.
#
# The program is $LIMOSA_CACHE/kube/kube-apiserver; LIMOSA_CACHE is target/tools
# unless it is set. With LIMOSA_TEST_CLUSTER=1 the tests use the cluster of
# KUBECONFIG, and nothing is built.
set -eu

SUITE=bookworm
GO=1.19
VERSION=1.20.2
NEEDED_MB=3500

die() {
    echo "build-apiserver.sh: $*" >&2
    exit 1
}

[ "${LIMOSA_TEST_CLUSTER:-}" != 1 ] || exit 0
here=$(cd "$(dirname "$0")" && pwd)
cache=${LIMOSA_CACHE:-$here/../../target/tools}/kube
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
program=$cache/kube-apiserver
[ ! -x "$program" ] || exit 0

for tool in apt-get dpkg dpkg-deb flock tar gzip; do
    command -v $tool >/dev/null || die "there is no $tool here: install it, or set LIMOSA_TEST_CLUSTER=1 and KUBECONFIG"
done
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r $KEYRING ] || die "no $KEYRING: install debian-archive-keyring"

exec 9>"$cache/lock"
flock 9
[ ! -x "$program" ] || exit 0
free=$(df -Pm "$cache" | awk 'NR == 2 { print $4 }')
[ "$free" -ge $NEEDED_MB ] || die "$cache has $free MB free, and the build needs $NEEDED_MB for a while"
echo "building kube-apiserver $VERSION from Debian's sources: some 4 minutes on 2 cores, once"

build=$cache/build
rm -rf "$build"
mkdir -p "$build/apt/lists/partial" "$build/apt/cache/archives/partial" "$build/src" "$build/root"
trap 'rm -rf "$build"' EXIT
trap 'exit 1' HUP INT TERM
log=$build/log

# The mirror that this machine uses for its own packages, if it is Debian's.
mirror=$(apt-get indextargets --format '$(REPO_URI) $(LABEL) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
    awk '$2 == "Debian" && $3 == "main" { sub("/$", "", $1); print $1; exit }')
mirror=${mirror:-http://deb.debian.org/debian}
echo "deb [signed-by=$KEYRING] $mirror $SUITE main
deb-src [signed-by=$KEYRING] $mirror $SUITE main" >"$build/apt/sources.list"
apt() {
    command="$1"
    shift
    apt-get -q "$command" -o Dir::Etc::SourceList="$build/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
        -o Dir::State::Lists="$build/apt/lists" -o Dir::Cache="$build/apt/cache" -o Debug::NoLocking=1 \
        -o APT::Sandbox::User=root -o APT::Default-Release= "$@" >>"$log" 2>&1 ||
        die "apt-get $command failed, with $mirror: $(tail -n 5 "$log")"
}
cd "$build/apt"
apt update
apt source --download-only kubernetes
apt download golang-$GO-go golang-$GO-src golang-github-modern-go-reflect2-dev
for package in *.deb; do dpkg-deb -x "$package" "$build/root"; done
# Debian's patches are left out: they are about what kubectl prints.
tar -xzf kubernetes_*"$VERSION".orig.tar.gz -C "$build/src" --strip-components=1

# Its vendored reflect2 crashes with this Go at the first custom resource.
rm -rf "$build/src/vendor/github.com/modern-go/reflect2"
cp -r "$build/root/usr/share/gocode/src/github.com/modern-go/reflect2" "$build/src/vendor/github.com/modern-go/"

mkdir -p "$build/go/src/k8s.io" "$build/tmp"
ln -s "$build/src" "$build/go/src/k8s.io/kubernetes"
export GOROOT="$build/root/usr/lib/go-$GO" GOPATH="$build/go" GOCACHE="$build/gocache" TMPDIR="$build/tmp"
export GO111MODULE=off GOFLAGS= GOTOOLCHAIN=local CGO_ENABLED=0
export PATH="$GOROOT/bin:$PATH"
unset GOOS GOARCH GOBIN
cd "$build/go/src/k8s.io/kubernetes"
run() {
    "$@" >>"$log" 2>&1 || die "$1 failed: $(tail -n 20 "$log")"
}

# The one generated file that the sources lack, made as their Makefile.generated_files
# does it. What vendor/k8s.io has are links, which grep follows when they are named.
tagged=$(grep -rl --include='*.go' '^// +k8s:openapi-gen=true' cmd pkg plugin vendor/k8s.io/*/ |
    grep -v -e /code-generator/ -e /sample-apiserver/ | xargs -n1 dirname | tr -s / |
    LC_ALL=C sort -u | sed 's,^,k8s.io/kubernetes/,' | paste -sd,)
run go build -o "$build/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
run "$build/openapi-gen" --logtostderr -i "$tagged" -p k8s.io/kubernetes/pkg/generated/openapi \
    -O zz_generated.openapi -h vendor/k8s.io/code-generator/hack/boilerplate.go.txt -r "$build/violations" \
    --output-base "$build/go/src"

flags="-s -w"
for package in component-base/version client-go/pkg/version; do
    at=k8s.io/kubernetes/vendor/k8s.io/$package
    flags="$flags -X $at.gitVersion=v$VERSION -X $at.gitMajor=${VERSION%%.*} -X $at.gitMinor=20"
done
run go build -ldflags "$flags" -o "$build/kube-apiserver" ./cmd/kube-apiserver
# Complete or not there at all.
mv "$build/kube-apiserver" "$program"
