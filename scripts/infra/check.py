"""`make terraform-check`: format, init, validate, test and lint of the module, its examples and the image pipeline."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import lint
import module_readme
import offline
import render
from offline import CACHE, IMAGE, MODULE, ROOT

AT_A_TIME = 2

Environment = dict[str, str]


def name_of(folder: Path) -> str:
    return str(folder.relative_to(ROOT)) if folder.is_relative_to(ROOT) else folder.name


def terraform(folder: Path, words: list[str], environment: Environment) -> tuple[bool, str]:
    command = ["terraform", f"-chdir={folder}", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode == 0, (done.stdout + done.stderr).strip()


STEPS = (["init", "-backend=false"], ["validate"], ["test"])


def tested(folder: Path) -> bool:
    return any(folder.glob("tests/*.tftest.hcl"))


class Report:
    """One line for each step; what a command said only where it failed."""

    def __init__(self) -> None:
        self.failed = 0

    def step(self, what: str, act: Callable[[], tuple[bool, str]]) -> bool:
        started = time.monotonic()
        sound, words = act()
        self.failed += not sound
        line = f"{'ok    ' if sound else 'FAILED'} {time.monotonic() - started:5.1f} s  {what}"
        print(line if sound else f"{line}\n{words}", flush=True)
        return sound


def check_folder(folder: Path, environment: Environment, report: Report) -> None:
    name = name_of(folder)
    inside = environment | {"TF_DATA_DIR": str(CACHE / "data" / name.replace("/", "-"))}
    for words in STEPS:
        if words == ["test"] and not tested(folder):
            report.step(f"{name}: terraform test", lambda: (False, f"{name}/tests has no *.tftest.hcl: nothing is asserted"))
        elif not report.step(f"{name}: terraform {words[0]}", lambda: terraform(folder, words, inside)):
            return


def rendered_and_linted(folder: Path, environment: Environment) -> tuple[bool, str]:
    """What the configuration would create, written down for the other tests, and what is wrong with it."""
    try:
        mistakes = lint.mistakes(render.render(folder, environment))
    except render.ApplyFailed as failure:
        return False, str(failure)
    return not mistakes, "\n".join(mistakes)


def readme_is_fresh() -> tuple[bool, str]:
    reason = module_readme.stale()
    return reason is None, reason or ""


def checkov() -> tuple[bool, str]:
    folders = [word for folder in (MODULE, IMAGE) if any(folder.glob("*.tf")) for word in ("--directory", str(folder))]
    command = [str(ROOT / ".venv-checkov/bin/checkov"), *folders, "--config-file", str(ROOT / "scripts/infra/checkov.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    return done.returncode == 0, (done.stdout + done.stderr).strip()


def check_sources(report: Report) -> None:
    for top in (MODULE, ROOT / "infra"):
        words = ["fmt", "-check", "-recursive", "-diff"]
        report.step(f"{top.name}: terraform fmt", partial(terraform, top, words, offline.quiet_environment()))
    report.step("terraform/README.md: tables of inputs and outputs", readme_is_fresh)
    report.step("checkov", checkov)


def check(folders: list[Path], report: Report) -> None:
    with offline.best() as (provider, environment), offline.stand_in() as without_aws, ThreadPoolExecutor(AT_A_TIME) as pool:
        print(f"terraform-check: with {provider}", flush=True)
        done = [pool.submit(check_sources, report)]
        for folder in folders:
            done.append(pool.submit(check_folder, folder, environment, report))
            if folder != MODULE:
                act = partial(rendered_and_linted, folder, without_aws)
                done.append(pool.submit(report.step, f"{name_of(folder)}: apply with the stand-in, lint", act))
        for one in done:
            one.result()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", help="a part of the names of the folders to check; may be repeated")
    arguments = parser.parse_args()
    if shutil.which("terraform") is None:
        print("terraform-check: SKIPPED: terraform is not installed, so the module is NOT checked (1.9 or later is needed)")
        return 0
    folders = [MODULE, *offline.applicable()]
    if arguments.only:
        folders = [folder for folder in folders if any(part in name_of(folder) for part in arguments.only)]
    report = Report()
    check(folders, report)
    print(f"terraform-check: {report.failed} steps FAILED" if report.failed else "terraform-check: all is well")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
