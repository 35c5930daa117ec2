#!/bin/sh
# Installs what the lab needs on Debian 12 or 13: Open vSwitch, OVN, QEMU, etcd
# and a few tools. Run it as root; it says nothing and needs no network when nothing
# is missing. No system service is started: the lab runs daemons of its own.
set -eu

PACKAGES="openvswitch-switch ovn-central ovn-host iproute2 ethtool util-linux procps mount
 qemu-system-x86 busybox-static cpio gzip xz-utils gcc libc6-dev ca-certificates etcd-server prometheus
 libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients buildah"
# Another package of the same program may be there, and they do not go together.
command -v kubectl >/dev/null || PACKAGES="$PACKAGES kubernetes-client"
python3 -m pip --version >/dev/null 2>&1 || PACKAGES="$PACKAGES python3-pip"

# Downloaded, not installed, when the guest is built for the first time.
KERNEL=linux-image-cloud-amd64
BUILT=$(dirname "$0")/../target/guest/vmlinuz

die() {
    echo "install.sh: $*" >&2
    exit 1
}

installed() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

[ "$(id -u)" = 0 ] || die "run it as root"
command -v apt-get >/dev/null && command -v dpkg-query >/dev/null ||
    die "this is for Debian: there is no apt-get here; install by hand: $(echo $PACKAGES)"

missing=
for package in $PACKAGES; do
    installed "$package" || missing="$missing $package"
done
if [ -e "$BUILT" ] || apt-cache show "$KERNEL" >/dev/null 2>&1; then
    kernel_known=yes
else
    kernel_known=no
fi
[ -n "$missing" ] || [ $kernel_known = no ] || exit 0

apt-get update -q || die "apt-get update failed: is there a network?"
[ -n "$missing" ] || exit 0

# invoke-rc.d asks this script whether it may touch a service: 101 is no.
policy=/usr/sbin/policy-rc.d
aside=$policy.limosa-lab
restore() {
    rm -f "$policy"
    if [ -e "$aside" ] || [ -L "$aside" ]; then mv "$aside" "$policy"; fi
}
if [ -e "$aside" ] || [ -L "$aside" ]; then
    # An earlier run was killed before it could put things back.
    restore
fi
if [ -e "$policy" ] || [ -L "$policy" ]; then mv "$policy" "$aside"; fi
trap restore EXIT
trap 'exit 1' HUP INT TERM
printf '#!/bin/sh\nexit 101\n' >"$policy"
chmod 0755 "$policy"

# shellcheck disable=SC2086 # a list of words
DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing ||
    die "could not install:$missing"
