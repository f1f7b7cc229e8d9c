# Makes the machine that a node finds: its file systems and its network. Run by process 1's side of a sandbox, as
# bash -c, with the directory $1 that becomes /var/lib, the node's address $2, its gateway $3 and its control group $4.
set -eu

# What it writes is its own, and gone with it. Containers may mount into each other, so propagation is shared again.
mount --make-rshared /
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log
mkdir /var/log/containers
mount --bind "$1" /var/lib

# kubelet sets these values of the kernel, which belong to no namespace. It is shown that they are as it wants them, so
# that the machine's stay as they are.
mkdir /run/sysctl
while read -r name value; do
    file=/run/sysctl/${name//\//_}
    echo "$value" > "$file"
    mount --bind "$file" "/proc/sys/$name"
done <<VALUES
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
VALUES

ip address add "$2/24" dev wire0
ip link set wire0 up
ip route add default via "$3"
echo 1 > /proc/sys/net/ipv4/ip_forward

# Version 2 has one hierarchy for all controllers, version 1 one for each.
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
        echo "+$controller" > /sys/fs/cgroup/cgroup.subtree_control || true
    done
    mkdir "/sys/fs/cgroup/$4"
else
    for hierarchy in /sys/fs/cgroup/*; do
        mkdir "$hierarchy/$4"
    done
fi
