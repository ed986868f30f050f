"""What runs first in the executable: lets compiled modules be imported from its archive, and then is the command `mq9`.

Python imports the other modules from an archive by itself. A compiled one must have a path, so it is given one that names memory, or,
where /proc is not mounted, a file that is there for as long as loading it takes.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from itertools import count
from zipimport import zipimporter

TYPE_CHECKING = False  # as in typing, which would have to be imported for it
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

_PROC = "/proc/self/fd"
_unused = count(2)


class _Loader(ExtensionFileLoader):
    """Loads one compiled module out of the archive."""

    def __init__(self, name: str, archive: zipimporter, member: str) -> None:
        super().__init__(name, member)
        self._archive = archive
        self._member = member

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Give the module a path, and load it from there."""
        data = self._archive.get_data(self._member)
        has_proc = os.access(_PROC, os.X_OK)
        if has_proc:
            file = os.memfd_create(self.name)
            # A path that was used before is taken for what was loaded from it: slashes make it a new one.
            path = _PROC + "/" * next(_unused) + str(file)
        else:
            path = os.path.join(os.environ.get("TMPDIR", os.sep + "tmp"), f"mq9-{os.getpid()}-{self.name}")  # noqa: PTH118
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o700)
        try:
            with open(file, "wb", closefd=False) as copy:
                copy.write(data)
            spec.origin = path
            return super().create_module(spec)
        finally:
            os.close(file)
            if not has_proc:
                os.unlink(path)  # noqa: PTH108 - without importing pathlib


class _Finder:
    """Finds the compiled modules of the archive."""

    def __init__(self, archive: zipimporter) -> None:
        self._archive = archive
        self._names = {
            name.removesuffix(suffix).replace("/", "."): name
            for name in archive._files  # type: ignore[attr-defined] # noqa: SLF001 - its own list, and no other way to see it
            for suffix in EXTENSION_SUFFIXES
            if name.endswith(suffix)
        }

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The way to load a compiled module, or None for what is none."""
        member = self._names.get(name)
        if member is None:
            return None
        spec = ModuleSpec(name, _Loader(name, self._archive, member), origin=member)
        spec.has_location = True
        return spec


def _main() -> None:
    archive = zipimporter(sys.path[0])
    sys.meta_path.insert(0, _Finder(archive))
    sys.argv[0] = "mq9"
    # Of no use to programs that this one starts.
    sys.executable = ""
    from mq9.cli import main

    main()


_main()
