"""The instance store: formatted when blank, mounted, used where the image has mounted it, left alone when it is somebody's."""

from __future__ import annotations

import json
import unittest
from typing import Any

from instance import Instance, Quiet, Server

DISK = {"path": "/dev/nvme1n1", "model": "Amazon EC2 NVMe Instance Storage", "size": 250 << 30, "fstype": None, "label": None,
        "mountpoint": None}
ROOT_VOLUME = {**DISK, "path": "/dev/nvme0n1", "model": "Amazon Elastic Block Store", "mountpoint": "/"}


class Store(unittest.TestCase):
    def setUp(self) -> None:
        nowhere = Server(Quiet)
        self.addCleanup(nowhere.close)
        cloud = type("NoCloud", (), {"front": type("NoFront", (), {"server": nowhere})})
        self.instance = Instance(cloud, "agent")
        self.addCleanup(self.instance.close)
        self.place = f"{self.instance.root}/mnt/paddock-store"
        self.done = self.instance.root / "done"
        for name in ("mkfs.ext4", "mount"):
            self.instance.program(name, f'echo "{name} $@" >> {self.done}\n')

    def run_with(self, *disks: dict[str, Any]) -> tuple[list[str], str]:
        """What is run on such disks, and what is said."""
        listed = self.instance.root / "disks.json"
        listed.write_text(json.dumps({"blockdevices": [ROOT_VOLUME, *disks]}))
        self.instance.program("lsblk", f"cat {listed}\n")
        ran = self.instance.run("store.py")
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertEqual(len(ran.stdout.splitlines()), 1)
        return self.done.read_text().splitlines() if self.done.exists() else [], ran.stdout

    def test_none(self) -> None:
        self.assertEqual(self.run_with(), ([], "store: this instance has none; the model goes to the root volume\n"))

    def test_a_blank_one_is_formatted_and_mounted(self) -> None:
        done, said = self.run_with({**DISK, "path": "/dev/nvme2n1", "size": 1 << 30}, DISK)
        self.assertEqual([line.split()[0] for line in done], ["mkfs.ext4", "mount"])
        self.assertTrue(done[0].endswith(" /dev/nvme1n1"), "the largest")
        self.assertEqual(done[1], f"mount -o noatime,nosuid,nodev /dev/nvme1n1 {self.place}")
        self.assertIn("250 GiB", said)

    def test_after_a_reboot_it_is_mounted_as_it_is(self) -> None:
        done, _ = self.run_with({**DISK, "fstype": "ext4", "label": "paddock-store"})
        self.assertEqual([line.split()[0] for line in done], ["mount"])

    def test_where_the_image_mounted_it_is_used(self) -> None:
        volume = {**DISK, "path": "/dev/mapper/vg-lv", "model": None, "fstype": "ext4", "mountpoint": "/opt/dlami/nvme"}
        done, said = self.run_with({**DISK, "fstype": "LVM2_member", "children": [volume]})
        self.assertEqual(done, [f"mount --bind /opt/dlami/nvme {self.place}"])
        self.assertIn("by the image", said)

    def test_what_is_somebodys_is_left_alone(self) -> None:
        for disk in ({**DISK, "fstype": "xfs", "label": "mine"}, {**DISK, "children": [{**DISK, "path": "/dev/nvme1n1p1"}]}):
            done, said = self.run_with(disk)
            self.assertEqual(done, [])
            self.assertIn("left alone", said)

    def test_a_failure_is_one_line(self) -> None:
        self.instance.program("mount", 'echo "mount: wrong fs type" >&2; exit 32\n')
        (self.instance.root / "disks.json").write_text(json.dumps({"blockdevices": [DISK]}))
        self.instance.program("lsblk", f"cat {self.instance.root}/disks.json\n")
        ran = self.instance.run("store.py")
        self.assertEqual((ran.returncode, ran.stderr), (1, "store: mount: wrong fs type; the model goes to the root volume\n"))


if __name__ == "__main__":
    unittest.main()
