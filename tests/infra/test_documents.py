"""Links in the documents lead somewhere; the Terraform that they show names inputs that the modules have, and all needed."""

from __future__ import annotations

import re
import unittest
from pathlib import Path

from examples import ROOT

import hcl2
from module_readme import declared, text_of

MODULES = {"terraform": ROOT / "terraform", "image": ROOT / "infra" / "image"}


def documents() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *(file for folder in ("docs", "infra", "terraform") for file in (ROOT / folder).rglob("*.md"))])


def shown() -> list[tuple[Path, dict]]:
    """Each module block of a document."""
    found = []
    for document in documents():
        for block in re.findall(r"^ *```hcl\n(.*?)^ *```", document.read_text(), re.DOTALL | re.MULTILINE):
            modules = hcl2.loads(re.sub("^ +", "", block, flags=re.MULTILINE)).get("module", [])
            found += [(document, text_of(inputs)) for module in modules for inputs in module.values()]
    return found


def anchors(text: str) -> set[str]:
    """Of its headings, as they are made where Markdown is shown."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


class Documents(unittest.TestCase):
    def test_links_lead_somewhere(self) -> None:
        seen = 0
        for document in documents():
            for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", document.read_text()):
                seen += 1
                path, _, anchor = target.partition("#")
                file = (document.parent / path).resolve() if path else document
                self.assertTrue(file.exists(), f"{document}: {target}")
                if anchor:
                    self.assertIn(anchor, anchors(file.read_text()), f"{document}: {target}")
        self.assertGreater(seen, 50)

    def test_module_blocks_name_what_there_is(self) -> None:
        blocks = shown()
        self.assertGreater(len(blocks), 2)
        for document, inputs in blocks:
            source = inputs["source"].split("?")[0].rsplit("/", 1)[-1]
            variables = declared(MODULES[source], "variable")
            given = set(inputs) - {"source"}
            needed = {name for name, variable in variables.items() if "default" not in variable}
            self.assertEqual(given - set(variables), set(), document)
            self.assertEqual(needed - given, set(), document)

    def test_no_block_admits_somebody(self) -> None:
        """Whoever pastes a hash that is sound admits whoever knows its key."""
        keys = [line for _, inputs in shown() for line in inputs.get("api_keys", [])]
        self.assertGreater(len(keys), 0)
        for line in keys:
            self.assertIsNone(re.search(r"sha256:[0-9a-f]{64}$", line), f"{line}: the module's validation would take it")

    def test_a_session_of_session_manager_is_not_roots(self) -> None:
        """It is ssm-user's, who may neither restart a unit nor read the journal."""
        said = re.findall(r"(sudo )?\b(systemctl|journalctl) (?=[a-z-])", (ROOT / "docs" / "aws.md").read_text())
        self.assertGreater(len(said), 4)
        self.assertEqual([command for sudo, command in said if not sudo], [])


if __name__ == "__main__":
    unittest.main()
