"""The demo model without its end tokens: all that write with it write as many tokens as they are asked for."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from app.settings import Settings
from ops.bench.errors import NotInstalled

_FOLDER = Path("var") / "bench" / "models"
_ENDS = {"config.json": "eos_token_id", "generation_config.json": "eos_token_id", "tokenizer_config.json": "eos_token"}


def endless_model() -> Path:
    """Return the folder, making it anew where it is missing or older than the demo model."""
    done = subprocess.run([sys.executable, "-m", "workers.engine.demo_model", "--data-dir", str(Settings().data_dir)],
                          capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotInstalled(f"there is no demo model: {done.stderr[-500:]}")
    return without_ends(Path(done.stdout.strip()), _FOLDER)


def without_ends(model: Path, home: Path) -> Path:
    """Return a folder below `home` with the model, but for its end tokens; its weights are a link."""
    folder = (home / f"{model.name}-endless").absolute()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in model.iterdir():
        if member := _ENDS.get(file.name):
            content = json.loads(file.read_text(encoding="utf-8"))
            (folder / file.name).write_text(json.dumps(content | {member: None}), encoding="utf-8")
        else:
            (folder / file.name).symlink_to(file.absolute())
    return folder
