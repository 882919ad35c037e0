#!/bin/bash
# Starts what cloud-init wrote: as soon as it is written, and once more at cloud-init's end, when nothing is left to do.
set -euo pipefail
systemctl daemon-reload
systemctl enable --quiet paddock.target
systemctl start --no-block paddock.target
