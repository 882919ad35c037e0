"""Several files as one change."""

import os
from typing import Dict, Optional

import files


class Step:
    """Files that change together. First they are only wished, for the program to judge; then all are put in place, or none."""

    def __init__(self) -> None:
        self.wished: Dict[str, files.File] = {}
        self.before: Dict[str, Optional[files.File]] = {}

    def wish(self, path: str, data: bytes, mode: int, group: int = -1) -> None:
        wanted = files.File(data, mode, group)
        if not files.is_there(path, wanted):
            self.wished[path] = wanted

    def text(self, path: str) -> str:
        """The file as it would be."""
        data = self.wished[path].data if path in self.wished else files.read(path)
        return (data or b"").decode()

    def copies(self, folder: str) -> Dict[str, str]:
        """Puts copies of the wished files there; the name of each copy."""
        named = {path: f"{folder}/{number}" for number, path in enumerate(self.wished)}
        for path, copy in named.items():
            files.write(copy, self.wished[path].data, 0o600)
        return named

    def put(self) -> None:
        try:
            for path, wanted in self.wished.items():
                self.before[path] = files.there(path)
                files.write(path, *wanted)
        except BaseException:
            self.undo()
            raise

    def undo(self) -> None:
        for path, was in self.before.items():
            if was is not None:
                files.write(path, *was)
            elif os.path.exists(path):
                os.unlink(path)
