"""User data of both roles, as Terraform renders it: valid cloud-config, small, without a secret, and whole with its bundle."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path
from typing import Any

import yaml

import tool
from instance import BOOT, ROOT

MODULE = ROOT / "terraform" / "modules" / "user-data"
ROLES = ("balancer", "agent")
SETTINGS = {
    "BOOT_REGION": "ap-southeast-2", "BOOT_BUCKET": "a-bucket-with-a-long-name-111122223333-ap-southeast-2",
    "BOOT_SETTINGS_KEY": "agent/a-group-with-a-long-name/settings.env", "BOOT_TOKEN_PARAMETER": "/a-deployment/management-token",
    "BOOT_TOKEN_KMS_KEY": "arn:aws:kms:ap-southeast-2:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    "BOOT_LOG_GROUP": "/a-deployment/instances", "BOOT_KEEP_FAILED": "true", "BOOT_DUALSTACK": "true",
}
# No package is installed on an instance: the standard library of Amazon Linux 2023's Python.
OLDEST_PYTHON = (3, 9)


def plan(role: str, settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Terraform's plan of the module alone, which needs no provider; its outputs in JSON."""
    with tempfile.TemporaryDirectory(prefix="paddock-") as folder:
        environment = {**os.environ, "TF_DATA_DIR": folder + "/data", "TF_CLI_CONFIG_FILE": os.devnull, "TF_IN_AUTOMATION": "1"}
        Path(folder, "values.tfvars.json").write_text(json.dumps({"role": role, "settings": settings}))

        def terraform(*words: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(["terraform", f"-chdir={MODULE}", *words], env=environment, capture_output=True, text=True,
                                  timeout=120, check=False)

        terraform("init", "-backend=false", "-no-color").check_returncode()
        done = terraform("plan", "-no-color", "-input=false", "-lock=false", f"-state={folder}/state", f"-out={folder}/plan",
                         f"-var-file={folder}/values.tfvars.json")
        return terraform("show", "-json", f"{folder}/plan") if done.returncode == 0 else done


class UserData(unittest.TestCase):
    rendered: dict[str, dict[str, Any]] = {}

    @classmethod
    def setUpClass(cls) -> None:
        tool.terraform()
        for role in ROLES:
            done = plan(role, SETTINGS)
            if done.returncode:
                raise AssertionError(done.stderr)
            cls.rendered[role] = {name: said["value"] for name, said in json.loads(done.stdout)["planned_values"]["outputs"].items()}

    def files(self, role: str) -> dict[str, tuple[str, str]]:
        written = yaml.safe_load(self.rendered[role]["text"])["write_files"]
        return {one["path"]: (one["permissions"], one["content"]) for one in written}

    def test_it_fits_and_packages_are_left_alone(self) -> None:
        for role in ROLES:
            self.assertLessEqual(len(self.rendered[role]["base64"]), 16 * 1024)
            said = yaml.safe_load(self.rendered[role]["text"])
            self.assertEqual((said["package_update"], said["package_upgrade"]), (False, False))
            self.assertNotIn("packages", said)

    def test_what_it_writes_is_started_as_soon_as_it_is_there_and_at_the_end(self) -> None:
        for role in ROLES:
            said = yaml.safe_load(self.rendered[role]["text"])
            self.assertLessEqual(set(said), {"bootcmd", "runcmd", "write_files", "groups", "package_update", "package_upgrade",
                                             "package_reboot_if_required"}, "cloud-init passes over what it does not know")
            (*before, early), (late,) = said["bootcmd"], said["runcmd"]
            self.assertEqual([words[:2] for words in before], [["systemctl", "mask"]] if role == "agent" else [])
            self.assertEqual(early[-3:], late)
            self.assertEqual(early[0], "systemd-run")
            started = re.findall(r"paddock-[\w.-]+", late[-1])
            written = {path.rsplit("/", 1)[1] for path in self.files(role)}
            self.assertEqual(started, ["paddock-logs.service", "paddock-begin.service"])
            self.assertLessEqual(set(started), written)

    def test_files_are_written_as_they_stand_in_the_repository(self) -> None:
        for role in ROLES:
            bundle = {one["path"]: (one["mode"], one["text"]) for one in json.loads(self.rendered[role]["bundle"])}
            first = self.files(role)
            own = first.pop("/etc/paddock/bootstrap.env")
            self.assertEqual(own[1], "".join(f"{key}={value}\n" for key, value in sorted({**SETTINGS, "BOOT_ROLE": role}.items())))
            for path, (mode, text) in {**bundle, **first}.items():
                name = path.rsplit("/", 1)[1]
                sources = [*BOOT.glob(name), *ROOT.glob(f"infra/systemd/both/{name}"), *ROOT.glob(f"infra/systemd/{role}/{name}"),
                           *ROOT.glob(f"infra/cloudwatch-agent/{name}")]
                self.assertEqual([source.read_text() for source in sources], [text], path)
                self.assertEqual(mode, "0755" if path.endswith((".py", ".sh")) else "0644")
            self.assertEqual({path: bundle[path] for path in first}, first, "the bundle renews the first files, too")

    def test_each_role_has_what_its_units_and_scripts_name(self) -> None:
        for role in ROLES:
            bundle = {one["path"]: one["text"] for one in json.loads(self.rendered[role]["bundle"])}
            named = set(re.findall(r"/usr/local/lib/paddock/[\w.]+", "".join(bundle.values())))
            self.assertEqual(named - set(bundle), set())
            for path, text in bundle.items():
                if path.endswith(".py"):
                    for module in re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE):
                        if (BOOT / f"{module}.py").exists():
                            self.assertIn(f"/usr/local/lib/paddock/{module}.py", bundle, path)

    def test_what_comes_first_needs_nothing_of_the_bundle(self) -> None:
        for role in ROLES:
            first = self.files(role)
            for path, (_, text) in first.items():
                if path.endswith(".py"):
                    for module in re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE):
                        if (BOOT / f"{module}.py").exists():
                            self.assertIn(f"/usr/local/lib/paddock/{module}.py", first, path)

    def test_the_bundle_lies_beside_the_settings(self) -> None:
        self.assertEqual(self.rendered["agent"]["bundle_key"], SETTINGS["BOOT_SETTINGS_KEY"] + ".boot.json")

    def test_bad_settings_are_refused(self) -> None:
        for change, said in (({"BOOT_BUCKET": ""}, "at least"), ({"BOOT_X": "a\nB=1"}, "environment file"), ({"PATH": "x"}, "named BOOT_")):
            done = plan("agent", {**SETTINGS, **change})
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(said, " ".join(done.stderr.replace("│", " ").split()))
        self.assertIn("The role is balancer or agent.", plan("gateway", SETTINGS).stderr)


class Scripts(unittest.TestCase):
    def test_they_are_of_the_oldest_python(self) -> None:
        for path in BOOT.glob("*.py"):
            tree = ast.parse(path.read_text(), path.name, feature_version=OLDEST_PYTHON)
            for node in ast.walk(tree):
                self.assertNotIsInstance(node, getattr(ast, "Match", ()), f"{path.name}: match")
                notes = [getattr(node, name, None) for name in ("annotation", "returns")]
                for note in [inner for note in notes if note for inner in ast.walk(note)]:
                    self.assertNotIsInstance(note, ast.BinOp, f"{path.name}:{getattr(note, 'lineno', 0)}: X | Y as a type")

    def test_they_import_the_standard_library_and_each_other(self) -> None:
        import sys
        own = {path.stem for path in BOOT.glob("*.py")}
        self.assertFalse(own & set(sys.stdlib_module_names), "a script would hide a module of Python's")
        for path in BOOT.glob("*.py"):
            for module in re.findall(r"^(?:import|from) (\w+)", path.read_text(), re.MULTILINE):
                self.assertIn(module, own | set(sys.stdlib_module_names), path.name)

    def test_shell_scripts(self) -> None:
        for path in BOOT.glob("*.sh"):
            self.assertEqual(subprocess.run(["bash", "-n", str(path)], check=False).returncode, 0)
            self.assertIn("set -euo pipefail", path.read_text())

    def test_shellcheck_has_nothing_to_say(self) -> None:
        shellcheck = tool.needed("shellcheck", "Debian: apt-get install shellcheck")
        for path in BOOT.glob("*.sh"):
            done = subprocess.run([shellcheck, str(path)], capture_output=True, text=True, check=False)
            self.assertEqual(done.stdout, "")

    def test_a_kernel_without_zram_is_one_line_and_no_failure(self) -> None:
        with tempfile.TemporaryDirectory(prefix="paddock-") as folder:
            for name in ("modprobe", "mkswap", "swapon"):
                Path(folder, name).write_text("#!/bin/bash\nexit 1\n")
                Path(folder, name).chmod(0o755)
            done = subprocess.run([str(BOOT / "zram.sh")], env={"PATH": f"{folder}:{os.environ['PATH']}"}, capture_output=True,
                                  text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(done.stdout, "zram: this kernel has no such module; the balancer runs without swap\n")

    def test_actions_json_names_what_the_scripts_call(self) -> None:
        said = json.loads((BOOT / "actions.json").read_text())
        of_role = {"balancer": ("logs", "management_token", "parameters", "settings", "source"),
                   "agent": ("keep_failed", "logs", "management_token", "parameters", "settings", "source")}
        for role, scripts in of_role.items():
            called = {"s3:GetObject"}
            for script in scripts:
                text = (BOOT / f"{script}.py").read_text()
                called |= {f"autoscaling:{name}" for name in re.findall(r'autoscaling\(\s*"(\w+)"', text)}
                called |= {f"ssm:{name}" for name in re.findall(r'\bssm\("(\w+)"', text)}
                called |= {f"logs:{name}" for name in re.findall(r'self\.call\("(\w+)"', text)}
            # Only a balancer makes the token.
            called -= {"ssm:PutParameter"} if role == "agent" else set()
            self.assertEqual(sorted(called), said[role])


if __name__ == "__main__":
    unittest.main()
