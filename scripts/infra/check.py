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
CHECKOV = Path(__file__).with_name("checkov.yaml")

Environment = dict[str, str]
Act = Callable[[], tuple[bool, str]]
"""Whether all is well, and what was said."""


def name_of(folder: Path) -> str:
    return str(folder.relative_to(ROOT)) if folder.is_relative_to(ROOT) else folder.name


def terraform(folder: Path, words: list[str], environment: Environment) -> tuple[bool, str]:
    command = ["terraform", f"-chdir={folder}", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode == 0, (done.stdout + done.stderr).strip()


class Report:
    """One line for each step; what a command said only where it failed."""

    def __init__(self) -> None:
        self.failed = 0

    def step(self, what: str, act: Act) -> bool:
        started = time.monotonic()
        sound, words = act()
        self.failed += not sound
        line = f"{'ok    ' if sound else 'FAILED'} {time.monotonic() - started:5.1f} s  {what}"
        print(line if sound else f"{line}\n{words}", flush=True)
        return sound


def inside(folder: Path, environment: Environment) -> Environment:
    """Terraform's own files of a folder go elsewhere."""
    return environment | {"TF_DATA_DIR": str(CACHE / "data" / name_of(folder).replace("/", "-"))}


def is_valid(folder: Path, environment: Environment, report: Report) -> bool:
    return all(
        report.step(f"{name_of(folder)}: terraform {words[0]}", partial(terraform, folder, words, inside(folder, environment)))
        for words in (["init", "-backend=false"], ["validate"])
    )


def tests_of(folder: Path, environment: Environment) -> list[tuple[str, Act]]:
    """One step for each file of tests, so that two can run at a time."""
    files = sorted(str(file.relative_to(folder)) for file in folder.glob("tests/*.tftest.hcl"))
    if not files:
        return [(f"{name_of(folder)}: terraform test", lambda: (False, "tests/ has no *.tftest.hcl: nothing is asserted"))]
    return [
        (
            f"{name_of(folder)}: terraform test -filter={file}",
            partial(terraform, folder, ["test", f"-filter={file}"], inside(folder, environment)),
        )
        for file in files
    ]


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


def checkov(folder: Path) -> tuple[bool, str]:
    # One folder in each call: given two, checkov looks at the first one twice.
    command = [ROOT / ".venv-checkov/bin/checkov", "--directory", folder, "--config-file", CHECKOV]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    return done.returncode == 0, (done.stdout + done.stderr).strip()


def check_texts(report: Report) -> None:
    """What needs no terraform."""
    report.step("terraform/README.md: tables of inputs and outputs", readme_is_fresh)
    for folder in (MODULE, IMAGE):
        report.step(f"{name_of(folder)}: checkov", partial(checkov, folder))


def check_sources(report: Report) -> None:
    for top in (MODULE, ROOT / "infra"):
        words = ["fmt", "-check", "-recursive", "-diff"]
        report.step(f"{top.name}: terraform fmt", partial(terraform, top, words, offline.quiet_environment()))
    check_texts(report)


def check(folders: list[Path], report: Report) -> None:
    with offline.best() as (provider, environment), offline.stand_in() as without_aws, ThreadPoolExecutor(AT_A_TIME) as pool:
        print(f"terraform-check: with {provider}", flush=True)
        sources = pool.submit(check_sources, report)
        valid = [folder for folder in folders if is_valid(folder, environment, report)]
        later = [step for folder in valid for step in tests_of(folder, environment)]
        later += [
            (f"{name_of(folder)}: apply with the stand-in, lint", partial(rendered_and_linted, folder, without_aws))
            for folder in valid
            if folder != MODULE
        ]
        for done in [sources, *(pool.submit(report.step, what, act) for what, act in later)]:
            done.result()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", help="a part of the names of the folders to check; may be repeated")
    arguments = parser.parse_args()
    report = Report()
    if shutil.which("terraform") is None:
        check_texts(report)
        print("terraform-check: SKIPPED: terraform is not installed, so the module is NOT checked (1.9 or later is needed)")
        return 1 if report.failed else 0
    folders = [MODULE, *offline.applicable()]
    if arguments.only:
        folders = [folder for folder in folders if any(part in name_of(folder) for part in arguments.only)]
    check(folders, report)
    print(f"terraform-check: {report.failed} steps FAILED" if report.failed else "terraform-check: all is well")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
