"""Start the supervisor: `python -I -S _boot.py STATE_FOLDER OPTIONS LOCK_HANDLE`.

The supervisor has to start within a few milliseconds and lives as long as the mesh, so it loads the
few small files it needs and not the packages around them: their front doors import everything.
Empty stand-ins for `agent99` and `agent99.embedded` make the usual import lines work.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType


def _boot() -> None:  # pragma: no cover - the first lines of another process
    room = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib is slow
    house = os.path.dirname(room)  # noqa: PTH120 - pathlib is slow
    for name, folder in (("agent99", house), ("agent99.embedded", room)):
        package = ModuleType(name)
        package.__path__ = [folder]
        sys.modules[name] = package
    from agent99.embedded._supervisor import main  # noqa: PLC0415 - only now can it be found

    main(sys.argv[1:])


if __name__ == "__main__":  # pragma: no cover - the same
    _boot()
