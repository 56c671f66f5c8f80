"""What the torch engine loads, and what it refuses to: always with a sentence that names TANDEM_MODEL."""

import functools
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import gguf
import numpy
import pytest
import torch
from safetensors.torch import load_file

from app.errors import SettingsError
from app.settings import Settings
from tests.test_engine_families import DEMO_DATA, an_engine, generated, greedy, run_on, save_model
from workers.engine import load_engine, loading
from workers.engine.demo_model import NAME, _gguf
from workers.engine.scripted import ScriptedEngine
from workers.engine.torch_engine import TorchEngine

Fault = Callable[[Path], object]

CODE_THAT_RAN = "the model's own code ran"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asks the hub. Its library reads HF_HUB_OFFLINE when it is imported, which may have been long ago."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_model(tmp_path / "tiny")


def refusal(model: str | Path, **settings: bool) -> str:
    """Return what the engine says when it refuses the model."""
    with pytest.raises(SettingsError) as refused:
        TorchEngine.load(Settings(model=str(model), **settings))  # type: ignore[arg-type]
    (fault,) = refused.value.faults
    assert "TANDEM_MODEL names a folder with config.json, a tokenizer and *.safetensors, a .gguf file, or a hub" in fault
    return fault


def said(model: Path, prompt: str = "the sea is") -> str:
    """Return what the model answers."""
    with closing(an_engine(model)) as engine:
        return engine.generate(greedy(prompt), run_on).text


def configure(model: Path, **changes: object) -> None:
    """Change members of the model's config.json."""
    file = model / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def pickle_only(model: Path) -> None:
    """Keep the weights as a pickle, which could run any code when it is read."""
    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()


def cut_short(model: Path) -> None:
    """Lose the second half of the weights, as an interrupted copy does."""
    os.truncate(model / "model.safetensors", (model / "model.safetensors").stat().st_size // 2)


def bring_code(model: Path) -> None:
    """Make the model one that only its own Python code can load."""
    (model / "configuration_mine.py").write_text(f"raise ImportError({CODE_THAT_RAN!r})\n")
    configure(model, model_type="mine", auto_map={"AutoConfig": "configuration_mine.MineConfig"})


# -- refused


@pytest.mark.parametrize(("spoil", "why"), [
    (pickle_only, "no file named model.safetensors"),
    (cut_short, "SafetensorError"),
    (lambda model: (model / "model.safetensors").unlink(), "no file named model.safetensors"),
    (lambda model: configure(model, num_hidden_layers=3), "9 weights are missing, model.layers.2."),
    (lambda model: configure(model, hidden_size=64), "RuntimeError"),
    (lambda model: configure(model, model_type="no-such-type"), "does not recognize this architecture"),
    (lambda model: configure(model, model_type="vit"), "Unrecognized configuration class"),
    (lambda model: (model / "config.json").write_text("{"), "not a valid JSON file"),
    (lambda model: (model / "tokenizer.json").write_text("{"), "JSONDecodeError"),
    (lambda model: [file.unlink() for file in model.iterdir()], "tokenizer"),
], ids=["pickle only", "cut short", "no weights", "weights missing", "weights of other sizes", "unknown type",
        "no text model", "bad config", "bad tokenizer", "empty folder"])
def test_a_folder_that_is_no_whole_model_is_refused(model: Path, spoil: Fault, why: str) -> None:
    spoil(model)

    fault = refusal(model)
    assert fault.startswith("the model 'tiny' cannot be loaded (")
    assert why in fault


@pytest.mark.parametrize("name", ["tandem-tests/no-such-model", "no such model", "/models/none.gguf"])
def test_a_name_of_no_model_is_refused(name: str) -> None:
    assert refusal(name).startswith(f"the model '{name if '.' not in name else 'none'}' cannot be loaded (OSError: ")


@pytest.mark.parametrize("name", ["/models/none", "./none"])
def test_a_path_at_which_nothing_lies_is_refused_as_such_and_not_taken_for_a_hub_name(name: str) -> None:
    assert refusal(name).startswith(f"the model '{Path(name)}' is not there; ")


@pytest.mark.parametrize("content", [b"", b"not a model", b"GGUF\x03\0\0\0" + bytes(100)])
def test_a_gguf_file_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.gguf").write_bytes(content)

    assert "the model 'bad' cannot be loaded" in refusal(tmp_path / "bad.gguf")


def test_code_that_comes_with_a_model_runs_only_when_the_settings_trust_it(
        model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    bring_code(model)

    refused = refusal(model)
    assert CODE_THAT_RAN not in refused
    assert "contains custom code" in refused
    assert CODE_THAT_RAN in refusal(model, trust_remote_code=True)


def test_a_deepseek_checkpoint_that_brings_code_is_loaded_without_it(tmp_path: Path) -> None:
    model = save_model(tmp_path / "deepseek", "deepseek_v3")
    plain = said(model)
    (model / "modeling_deepseek.py").write_text(f"raise ImportError({CODE_THAT_RAN!r})\n")
    configure(model, auto_map={"AutoConfig": "configuration_deepseek.DeepseekV3Config",
                               "AutoModelForCausalLM": "modeling_deepseek.DeepseekV3ForCausalLM"})

    assert said(model) == plain


# -- loaded


def test_weights_in_half_precision_are_computed_in_full_on_a_cpu(model: Path) -> None:
    configure(model, dtype="bfloat16")

    with closing(an_engine(model)) as engine:
        assert engine.model.dtype is torch.float32


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "auto"])
def test_the_settings_choose_the_type_to_compute_in_and_auto_takes_the_faster(
        model: Path, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    took_s = {torch.float32: 2.0, torch.bfloat16: 1.0}
    monkeypatch.setattr(loading, "_trial_s", lambda dtype, _rows: took_s[dtype])

    with closing(an_engine(model, dtype=dtype)) as engine:
        assert engine.model.dtype is (torch.float32 if dtype == "float32" else torch.bfloat16)
    took_s[torch.float32] = 0.5
    with closing(an_engine(model, dtype=dtype)) as engine:
        assert engine.model.dtype is (torch.bfloat16 if dtype == "bfloat16" else torch.float32)


def test_the_settings_choose_the_engine_and_slots_how_many_requests_run_at_once(model: Path) -> None:
    assert isinstance(load_engine(Settings(engine="scripted"), 1), ScriptedEngine)
    loaded = load_engine(Settings(model=str(model), dtype="float32"), 3)
    assert isinstance(loaded, TorchEngine)
    with closing(loaded):
        assert loaded._batcher._most_rows == 3
    with pytest.raises(SettingsError, match="engine 'vllm' is not known"):
        load_engine(Settings(engine="vllm"), 1)


@pytest.fixture
def read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers reads a GGUF file three times, makes the table of its tensors' names for each module anew, and takes
    strings out of a memmap one by one, which is some 20 s for the demo model's. Here each is done once, on an array."""
    memmap = numpy.memmap
    monkeypatch.setattr("numpy.memmap", lambda *args, **kwargs: numpy.asarray(memmap(*args, **kwargs)))
    monkeypatch.setattr("gguf.GGUFReader", functools.cache(gguf.GGUFReader))
    monkeypatch.setattr("gguf.get_tensor_name_map", functools.cache(gguf.get_tensor_name_map))


def test_without_a_model_named_the_demo_model_is_loaded_and_a_gguf_file_gives_the_same_answers(read_once: None) -> None:
    prompt, most = "The capital of France is", 12

    with closing(TorchEngine.load(Settings(data_dir=DEMO_DATA, dtype="float32"))) as demo:
        from_folder = demo.generate(greedy(prompt, most), run_on)
        assert (from_folder.text, from_folder.usage.completion_tokens) == generated(demo, prompt, most)
    with closing(an_engine(_gguf())) as file:
        from_file = file.generate(greedy(prompt, most), run_on).text

    assert "Paris" in from_folder.text
    assert (demo.name, file.name) == (NAME, _gguf().stem)
    assert demo.context == file.context == 8192
    assert from_folder.text == from_file


@pytest.fixture
def all_cpus() -> Iterator[set[int]]:
    """The CPUs this thread may use; put back afterwards, with torch's threads."""
    cpus, threads = os.sched_getaffinity(0), torch.get_num_threads()
    yield cpus
    os.sched_setaffinity(0, cpus)
    torch.set_num_threads(threads)


def test_torch_uses_as_many_threads_as_the_process_may_use_cpus(model: Path, all_cpus: set[int]) -> None:
    for count in sorted({1, len(all_cpus)}, reverse=True):
        os.sched_setaffinity(0, sorted(all_cpus)[:count])
        an_engine(model).close()

        with ThreadPoolExecutor(1) as jobs:  # as the batcher's thread runs the model: not the one that loaded it
            assert jobs.submit(torch.get_num_threads).result() == torch.get_num_threads() == count
