"""The torch engine on the families of models it is for: greedy output is what transformers' own `generate` says, token for
token. (In a batch that others join and leave: tests.test_engine_batcher.)

Also holds the tiny random models that all tests of the torch engine run on: real architectures with a few layers, whose
weights are drawn from a seed.
"""

import functools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from app.inputs import Message, ModelInput
from app.settings import Settings
from workers.engine.torch_engine import TorchEngine

CONTEXT = 96
VOCABULARY = 300
LONGEST = 14  # tokens of an answer of `Tiny`
TEMPLATE = ("{% for m in messages %}{{ bos_token }}{{ m.role }}: {{ m.content }}\n{% endfor %}"
            "{% if add_generation_prompt %}assistant:{% endif %}")
PROMPTS = ("t", "the sea is", "Grüße, 世界! \N{SNOWMAN}", "the sky is blue, " * 4)
DEMO_DATA = Path(__file__).parents[1] / "var"  # where `make up` converts the demo model, too

_SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "bos_token_id": 0,
    "eos_token_id": 1, "max_position_embeddings": CONTEXT, "initializer_range": 0.6,
}
_LATENT_ATTENTION_AND_EXPERTS: dict[str, Any] = {
    "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8, "n_routed_experts": 8,
    "n_shared_experts": 1, "num_experts_per_tok": 2, "n_group": 4, "topk_group": 2, "moe_intermediate_size": 16,
    "first_k_dense_replace": 1, "num_key_value_heads": 4, "rope_parameters": {
        "rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": CONTEXT // 4,
        "beta_fast": 32, "beta_slow": 1, "mscale": 0.7, "mscale_all_dim": 0.7}}
_GROUPED: dict[str, Any] = {"num_key_value_heads": 2, "head_dim": 8}
#: The sparse attention of DeepSeek-V3.2 and V4 takes the best `index_topk` tokens by scores that a ReLU leaves at 0 for
#: many; which of those are taken is up to rounding. With room for all of them nothing hangs on it.
_INDEXER: dict[str, Any] = {"index_topk": CONTEXT, "index_n_heads": 2, "index_head_dim": 16}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 2},
    "qwen2": {"num_key_value_heads": 2},
    "qwen3": _GROUPED,
    "mistral": {"num_key_value_heads": 2, "sliding_window": 8},  # shorter than most of the texts
    "gemma3_text": {**_GROUPED, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]},
    "deepseek_v2": {**_LATENT_ATTENTION_AND_EXPERTS, "q_lora_rank": None, "topk_method": "group_limited_greedy"},
    "deepseek_v3": {**_LATENT_ATTENTION_AND_EXPERTS, "q_lora_rank": 16},
    "deepseek_v32": {**_LATENT_ATTENTION_AND_EXPERTS, **_INDEXER, "q_lora_rank": 16},
    "deepseek_v4": {**_INDEXER, "q_lora_rank": 16, "head_dim": 16, "qk_rope_head_dim": 8, "n_routed_experts": 8,
                    "num_experts_per_tok": 2, "moe_intermediate_size": 16, "o_groups": 2, "o_lora_rank": 16,
                    "num_hidden_layers": 4, "sliding_window": 8, "num_key_value_heads": 1},
    "mamba": {},  # a state of fixed size, and no keys and values
}
RUN_SEPARATELY = ("deepseek_v4", "mamba")  # these cannot be run as one batch
_ENGINES = ("llama", "qwen2", "deepseek_v2", "deepseek_v3")  # tested here with their files, a tokenizer and a thread


def a_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of some 300 tokens, without a chat template, that begins each text with a token of its own.
    Decoded, bytes stay the letters that ByteLevel gives them (a space is "Ġ"), so that no two tokens read the same."""
    bytewise = Tokenizer(models.BPE())
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.Fuse()
    bytewise.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    bytewise.train_from_iterator(
        ["the sea is wide and the sky is blue, the sun is out and there it is, the sail"] * 3,
        trainers.BpeTrainer(vocab_size=300, special_tokens=["<s>", "</s>"], show_progress=False,
                            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    return PreTrainedTokenizerFast(tokenizer_object=bytewise, bos_token="<s>", eos_token="</s>")


def save_model(folder: Path, family: str = "llama", *, template: str | None = TEMPLATE, **config: Any) -> Path:
    """Write a tiny random model of the family, with its tokenizer; `config` changes its configuration."""
    tokenizer = a_tokenizer()
    tokenizer.chat_template = template
    torch.manual_seed(20)
    wanted = AutoConfig.for_model(family, vocab_size=len(tokenizer), **(_SIZES | FAMILIES[family] | config))
    AutoModelForCausalLM.from_config(wanted, dtype=torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def an_engine(folder: Path, **settings: Any) -> TorchEngine:
    """Load the engine with the model in the folder."""
    return TorchEngine.load(Settings(model=str(folder), **({"dtype": "float32"} | settings)))


def run_on() -> bool:
    """Stand for a caller who never stops a job."""
    return False


def greedy(prompt: str, max_tokens: int = 24, **members: Any) -> ModelInput:
    """Return a request whose answer is always the same."""
    return ModelInput(prompt=prompt, max_tokens=max_tokens, temperature=0.0, **members)


class Tiny:
    """A tiny random model in memory, and what `generate` says to prompts, each asked once."""

    def __init__(self, family: str) -> None:
        torch.manual_seed(3)
        config = AutoConfig.for_model(family, vocab_size=VOCABULARY, **(_SIZES | FAMILIES[family]))
        self.model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        self._said: dict[tuple[int, ...], list[int]] = {}

    def says(self, prompt: Sequence[int], count: int) -> list[int]:
        """Return the first tokens of the greedy answer, no more than `LONGEST`."""
        known = tuple(prompt)
        if known not in self._said:
            asked = torch.tensor([prompt])
            with torch.inference_mode():
                whole = self.model.generate(asked, attention_mask=torch.ones_like(asked), do_sample=False,
                                            max_new_tokens=LONGEST, eos_token_id=None)
            self._said[known] = whole[0, len(known):].tolist()
        return self._said[known][:count]


@functools.cache
def tiny(family: str) -> Tiny:
    """Return the family's model."""
    return Tiny(family)


def some_tokens(count: int, seed: int) -> list[int]:
    """Return random tokens, always the same."""
    return random.Random(seed).choices(range(2, VOCABULARY), k=count)


@pytest.fixture(scope="module", params=_ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchEngine]:
    engine = an_engine(save_model(tmp_path_factory.mktemp("model") / request.param, request.param))
    yield engine
    engine.close()


def generated(engine: TorchEngine, text: str, max_tokens: int, **encoding: Any) -> tuple[str, int]:
    """Return what `generate` answers, and how many tokens it took."""
    asked = engine.tokenizer(text, return_tensors="pt", **encoding)
    with torch.inference_mode():
        whole = engine.model.generate(**asked, do_sample=False, max_new_tokens=max_tokens)
    answer = whole[0, asked["input_ids"].shape[1]:]
    return engine.tokenizer.decode(answer, skip_special_tokens=True), len(answer)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_greedy_answer_to_a_prompt_is_what_generate_says(engine: TorchEngine, prompt: str) -> None:
    answer = engine.generate(greedy(prompt), run_on)

    assert (answer.text, answer.usage.completion_tokens) == generated(engine, prompt, 24)
    assert len(set(answer.text)) > 5, "a model that says one thing over and over would prove little"


def test_a_greedy_answer_to_messages_is_what_generate_says_to_the_filled_in_template(engine: TorchEngine) -> None:
    messages = [Message(role="system", content="be brief"), Message(role="user", content="the sea?")]

    answer = engine.generate(ModelInput(messages=messages, max_tokens=24, temperature=0.0), run_on)

    text = "<s>system: be brief\n<s>user: the sea?\nassistant:"
    assert (answer.text, answer.usage.completion_tokens) == generated(engine, text, 24, add_special_tokens=False)
    assert answer.usage.prompt_tokens == len(engine.tokenizer(text, add_special_tokens=False)["input_ids"])


def test_an_answer_names_its_model_and_counts_its_tokens(engine: TorchEngine) -> None:
    answer = engine.generate(greedy("the sea is", 5), run_on)

    assert answer.model == engine.name == engine.model.config.model_type
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (
        len(engine.tokenizer("the sea is")["input_ids"]), 5)


def test_greedy_answers_do_not_depend_on_what_was_asked_before(engine: TorchEngine) -> None:
    alone = engine.generate(greedy("the sea is"), run_on)
    engine.generate(greedy("the sky is blue and the sea is"), run_on)

    assert engine.generate(greedy("the sea is"), run_on) == alone
