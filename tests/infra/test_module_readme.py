"""The tables of terraform/README.md."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path

import examples  # noqa: F401  (where the scripts are)
import module_readme

VARIABLES = """
variable "size" {
  description = "How large, in GiB | or so."
  type        = number
  default     = 8
}

variable "groups" {
  description = "All of them."
  type = list(object({
    name = string
    more = optional(map(string), {})
  }))
}
"""
OUTPUTS = 'output "endpoint" {\n  description = "What clients call."\n  value = "http://${var.size}"\n}\n'


class Readme(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.module = Path(folder.name)
        (self.module / "variables.tf").write_text(VARIABLES)
        (self.module / "outputs.tf").write_text(OUTPUTS)

    def marked(self) -> str:
        lines = [mark.format(kind) for kind in ("inputs", "outputs") for mark in (module_readme.BEGIN, module_readme.END)]
        return "# Title\n" + "\n".join(lines) + "\nend\n"

    def test_tables(self) -> None:
        text = module_readme.with_tables(self.marked(), self.module)
        self.assertIn("| `groups` | All of them. | `list(object)` | **required** |\n", text)
        self.assertIn("| `size` | How large, in GiB \\| or so. | `number` | `8` |\n", text)
        self.assertIn("| `endpoint` | What clients call. |\n", text)
        self.assertTrue(text.startswith("# Title\n") and text.endswith("\nend\n"))

    def test_a_change_is_noticed(self) -> None:
        readme = self.module / "README.md"
        self.assertIn("is missing", module_readme.stale(self.module))
        readme.write_text("nothing marked\n")
        self.assertIn("lacks the lines", module_readme.stale(self.module))
        readme.write_text(module_readme.with_tables(self.marked(), self.module))
        self.assertIsNone(module_readme.stale(self.module))
        (self.module / "variables.tf").write_text(VARIABLES.replace("= 8", "= 9"))
        self.assertIn("| `9` |", module_readme.stale(self.module))


if __name__ == "__main__":
    unittest.main()
