#!/bin/bash
# Two machines, as namespaces of the network that are joined by a cable and have nothing else in common:
# torchrun meets across it. To be run by `unshare -rn`, or `unshare -n` as root; all is gone when it ends.
#
#   two_hosts.sh PYTHON COMMAND...: each machine runs torchrun with the command, one process each,
#   which it starts again up to RESTARTS times.
set -euo pipefail
python=$1
shift
ip link set lo up
unshare -n sleep 600 &
other=$!
trap 'kill $other 2>/dev/null || true' EXIT
until [ "$(readlink /proc/$other/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
there() { nsenter -t $other -n "$@"; }
ip link add first type veth peer name second
ip link set second netns $other
ip addr add 10.77.0.1/24 dev first
ip link set first up
there ip link set lo up
there ip addr add 10.77.0.2/24 dev second
there ip link set second up
if [ $# -eq 0 ]; then exit 0; fi # only whether it may be done
torchrun=("$python" -m torch.distributed.run --nnodes 2 --nproc-per-node 1 --rdzv-id two-hosts
    --rdzv-backend c10d --rdzv-endpoint 10.77.0.1:29400 --max-restarts "${RESTARTS:-0}")
GLOO_SOCKET_IFNAME=second there "${torchrun[@]}" --local-addr 10.77.0.2 --rdzv-conf is_host=0 "$@" &
second=$!
GLOO_SOCKET_IFNAME=first "${torchrun[@]}" --local-addr 10.77.0.1 --rdzv-conf is_host=1 "$@"
wait $second
