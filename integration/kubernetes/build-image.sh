#!/bin/sh
# Builds the static program and the image of it into target/image: limosa, limosa.oci.tar and limosa.cdx.json, what is in it.
# The same sources give the same bytes, wherever they lie and whenever it is.
# With a program as argument it makes an image of that, as the tests do with the one that they have anyway.
set -eu

die() {
    echo "build-image.sh: $*" >&2
    exit 1
}

cd "$(dirname "$0")/../.."
command -v buildah >/dev/null || die "there is no buildah: run integration/install.sh"
target=${LIMOSA_IMAGE_TARGET:-x86_64-unknown-linux-musl}
out=${LIMOSA_IMAGE_OUT:-target/image}
mkdir -p "$out"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
# Of the commit, or of the first second there is where there is none.
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}

if [ $# -gt 0 ]; then
    program=$1
else
    rustup target add "$target" >/dev/null 2>&1 || [ -d "$(rustc --print sysroot)/lib/rustlib/$target" ] ||
        die "rustup cannot install $target"
    # No path of this machine goes into the program, and C is compiled by the ordinary compiler: ring needs nothing of a libc.
    sysroot=$(rustc --print sysroot)
    flags="--remap-path-prefix=$PWD=/limosa --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo --remap-path-prefix=$sysroot=/rust"
    variable=$(echo "$target" | tr 'a-z-' 'A-Z_')
    env "CARGO_TARGET_${variable}_RUSTFLAGS=$flags" "CC_$(echo "$target" | tr - _)=${CC:-cc}" \
        CARGO_PROFILE_RELEASE_STRIP=symbols CARGO_PROFILE_RELEASE_DEBUG=false \
        "${CARGO:-cargo}" build --release --locked -p limosa --target "$target"
    program=target/$target/release/limosa
fi

context=$(mktemp -d)
store=$(mktemp -d)
trap 'rm -rf "$context" "$store"' EXIT
trap 'exit 1' HUP INT TERM
install -m 0755 "$program" "$context/limosa"
# A file's time is in its layer.
touch -d "@$epoch" "$context/limosa"
buildah --root "$store/root" --runroot "$store/run" --storage-driver vfs build --isolation chroot \
    --timestamp "$epoch" --build-arg "VERSION=$version" --file Dockerfile --tag "limosa:$version" "$context" >"$out/log" 2>&1 ||
    die "buildah failed: $(tail -n 5 "$out/log")"
buildah --root "$store/root" --runroot "$store/run" --storage-driver vfs push --quiet "limosa:$version" \
    "oci:$store/image:limosa:$version" >>"$out/log" 2>&1 || die "buildah failed: $(tail -n 5 "$out/log")"
tar --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner -cf "$out/limosa.oci.tar" -C "$store/image" \
    blobs index.json oci-layout
cp "$context/limosa" "$out/limosa"
