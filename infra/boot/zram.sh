#!/bin/bash
# Compressed swap in memory, half as large as the memory: for bursts on 512 MiB.
set -euo pipefail
if grep -q '^/dev/zram0 ' /proc/swaps; then
    exit 0
fi
if ! modprobe zram num_devices=1 2>/dev/null || [[ ! -e /sys/block/zram0/disksize ]]; then
    echo "zram: this kernel has no such module; the balancer runs without swap"
    exit 0
fi
memory_kib=$(awk '/^MemTotal:/ { print $2 }' /proc/meminfo)
echo "$((memory_kib / 2))K" > /sys/block/zram0/disksize
mkswap /dev/zram0 > /dev/null
swapon --priority 100 /dev/zram0
echo "zram: $((memory_kib / 2048)) MiB of compressed swap"
