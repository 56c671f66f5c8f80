"""`make lock`: writes requirements.lock, exact versions with hashes, from what is installed in the environment.

torch stands outside: which of its builds fits depends on the machine, so its file has no one hash. What torch needs beside
itself is in the lock, but for CUDA libraries, which its CUDA builds bring along.
"""

import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

LOCK = Path("requirements.lock")
_OUTSIDE = {"torch", "tandem", "pip", "uv", "triton"}


def main() -> int:
    """Write the lock with uv, which must be installed (`pip install uv`)."""
    pins = sorted({f"{dist.name}=={dist.version}" for dist in metadata.distributions()
                   if dist.name.lower() not in _OUTSIDE and not dist.name.lower().startswith("nvidia")}, key=str.lower)
    with tempfile.NamedTemporaryFile("w", suffix=".in") as wanted:
        wanted.write("\n".join(pins))
        wanted.flush()
        subprocess.run([sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-deps", "--generate-hashes",
                        "--no-header", "--no-annotate", wanted.name, "--output-file", str(LOCK)], check=True)
    LOCK.write_text("# Written by `make lock`. Installed with --require-hashes --no-deps; torch is installed beside it.\n"
                    + LOCK.read_text())
    print(f"{LOCK}: {len(pins)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
