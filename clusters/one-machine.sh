#!/usr/bin/env bash
# Ray on one machine with several GPUs. `ray stop` ends it.
#
#     clusters/one-machine.sh && RAY_ADDRESS=127.0.0.1:6379 python studies/e_sweep.py --scale single-gpu --corpus PATH
set -euo pipefail

# The dashboard listens on loopback. Ray's own ports listen on every address, whatever --node-ip-address says, and want the token:
# where others reach this machine, close them in its firewall.
umask 077 # the token is for this user alone
ray get-auth-token --generate >/dev/null # to ~/.ray/auth_token, if there is none
export RAY_AUTH_MODE=token

# The only node, so that it offers all: Ray counts CPUs and GPUs itself. A `trial_slot` for each trial of several workers at once.
# 30 % of the memory for the object store, bounded by what /dev/shm holds: beyond that Ray would move it to disk.
memory=$(awk '/MemTotal/ {printf "%.0f", $2 * 1024 * 0.3}' /proc/meminfo)
shm=$(df --output=avail -B1 /dev/shm | tail -n 1)
ray start --head --port=6379 --dashboard-host=127.0.0.1 \
    --object-store-memory="$((memory < shm ? memory : shm))" --resources='{"trial_slot": 16}' --disable-usage-stats
