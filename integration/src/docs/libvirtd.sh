# A libvirtd for one node of the lab (see shell.rs), alone with its directories and its hook.
dir=$NODE/libvirt
mkdir -p $dir/run $dir/etc/hooks $dir/lib $dir/users
cp contrib/libvirt/qemu $dir/etc/hooks/qemu
# Guests run as who starts them. What Debian's libvirt-daemon-system would add is looked for all the same.
cat >$dir/etc/libvirtd.conf <<CONF
auth_unix_rw = "none"
host_uuid = "00000000-0000-4000-8000-$(printf %012d ${NAME#ch})"
CONF
cat >$dir/etc/qemu.conf <<CONF
user = "root"
group = "root"
dynamic_ownership = 0
cgroup_controllers = []
namespaces = []
security_driver = "none"
stdio_handler = "file"
CONF
(cat /etc/passwd && echo libvirt-qemu:x:64055:64055::/:/bin/false) >$dir/users/passwd
(cat /etc/group && echo libvirt-qemu:x:64055: && echo kvm:x:64056:) >$dir/users/group
for file in passwd group; do mount --bind $dir/users/$file /etc/$file; done
for parent in /var/log /var/cache; do mount -t tmpfs tmpfs $parent; done
mkdir -p /run/libvirt /var/lib/libvirt
mount --bind $dir/run /run/libvirt
mount --bind $dir/lib /var/lib/libvirt
mount --bind $dir/etc /etc/libvirt
# libvirt waits until a process is gone, so somebody has to reap those whose parents have ended: a shell does.
exec unshare --uts --pid --fork --kill-child --mount-proc sh -c "hostname $NAME; libvirtd & wait"
