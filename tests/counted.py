"""Tokenizers of all kinds and chat templates as models have them, for the tests of counting prompts."""

from pathlib import Path
from typing import Any

import msgspec
import redis
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from app.inputs import Message
from app.model_card import ModelCard, publish
from app.token_count import TokenCounter
from workers.engine.card import card_of
from workers.engine.demo_model import demo_model_folder

CONTEXT = 96
DEMO_DATA = Path(__file__).parents[1] / "var"  # where `make up` converts the demo model, too
CORPUS = ["the sea is wide and the sky is blue, the sun is out and there it is, the sail", "Grüße, 世界! 12 + 30 = 42"] * 3
_SPECIAL = ["<s>", "</s>", "<unk>"]
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]

TEMPLATES = {
    "plain": ("{% for m in messages %}{{ bos_token }}{{ m.role }}: {{ m.content }}\n{% endfor %}"
              "{% if add_generation_prompt %}assistant:{% endif %}"),
    "chatml": """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are helpful<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}""",
    "deepseek-r1": (
        "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
        "{% set ns = namespace(is_first=false, is_tool=false, system_prompt='') %}{%- for message in messages %}"
        "{%- if message['role'] == 'system' %}{% set ns.system_prompt = message['content'] %}{%- endif %}{%- endfor %}"
        "{{bos_token}}{{ns.system_prompt}}{%- for message in messages %}{%- if message['role'] == 'user' %}"
        "{%- set ns.is_tool = false -%}{{'<\uff5cUser\uff5c>' + message['content']}}{%- endif %}"
        "{%- if message['role'] == 'assistant' and message['content'] is not none %}{% set content = message['content'] %}"
        "{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}"
        "{{'<\uff5cAssistant\uff5c>' + content + '<\uff5cend▁of▁sentence\uff5c>'}}{%- endif %}{%- endfor -%}"
        "{% if add_generation_prompt and not ns.is_tool %}{{'<\uff5cAssistant\uff5c><think>\\n'}}{% endif %}"),
    "qwen": """{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set content = message.content %}
        {%- if '</think>' in content %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {% generation %}{{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}{% endgeneration %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}""",
    "strict": (
        "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate user/assistant') }}{% endif %}[{{ m.role|upper }}] {{ m.content|trim }} "
        "{{ m.content|tojson if m.role == 'tool' }}{% if loop.index > 40 %}{% break %}{% endif %}{% endfor %}"),
}


def bytewise(**changes: Any) -> PreTrainedTokenizerFast:
    """Return a tokenizer as GPT-2, Llama 3, Qwen and DeepSeek have: bytes, merged."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = changes.get("normalizer")
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=changes.get("add_prefix_space", False))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=320, special_tokens=_SPECIAL, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    return whole(tokenizer)


def llama2() -> PreTrainedTokenizerFast:
    """Return a tokenizer as Llama 2 has, converted from SentencePiece: characters, and bytes for those it lacks."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=400, special_tokens=[*_SPECIAL, *_BYTES], show_progress=False))
    return whole(tokenizer)


def unigram() -> PreTrainedTokenizerFast:
    """Return a SentencePiece unigram model, with a normal form that makes eighteen letters of one."""
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), ("▁", -2.0), ("the", -1.0), ("s", -3.0), ("ea", -3.5)], 0,
                                         byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return whole(tokenizer)


def wordpiece() -> PreTrainedTokenizerFast:
    """Return a tokenizer of words and their parts."""
    tokenizer = Tokenizer(models.WordPiece({"<unk>": 0, "the": 1, "s": 2, "##e": 3, "##a": 4, "!": 5}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Digits()])
    return whole(tokenizer)


def whole(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Return transformers' tokenizer around one of the library's, with special tokens."""
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    made.add_tokens(["<think>", "</think>"])
    made.add_special_tokens({"additional_special_tokens": [
        "<|im_start|>", "<|im_end|>", "<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>"]})
    return made


KINDS = {
    "bytes": bytewise,
    "bytes with a blank before": lambda: bytewise(add_prefix_space=True),
    "bytes in normal form": lambda: bytewise(normalizer=normalizers.NFC()),
    "llama 2": llama2,
    "unigram": unigram,
    "words": wordpiece,
}


def conversation(*texts: str) -> list[Message]:
    """Return messages of user and assistant in turn."""
    return [Message(role="assistant" if at % 2 else "user", content=text) for at, text in enumerate(texts)]


def transformers_count(tokenizer: PreTrainedTokenizerFast, messages: list[Message]) -> int:
    """Return how many tokens transformers makes of messages."""
    said = [{"role": message.role, "content": message.content} for message in messages]
    return len(tokenizer.apply_chat_template(said, add_generation_prompt=True)["input_ids"])


def carded(tokenizer: PreTrainedTokenizerFast, template: str | None, context: int = CONTEXT) -> tuple[ModelCard, bytes]:
    """Return the card of a tokenizer with this template."""
    tokenizer.chat_template = template
    written = card_of(tokenizer, "tiny", context)
    assert written is not None
    return written


def demo() -> tuple[PreTrainedTokenizerFast, str]:
    """Return the demo model's tokenizer and template."""
    tokenizer = AutoTokenizer.from_pretrained(demo_model_folder(DEMO_DATA))
    return tokenizer, tokenizer.chat_template


class Case:
    """A tokenizer with a template, and the counter made from its card."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, template: str) -> None:
        self.tokenizer = tokenizer
        self.card, self.text = carded(tokenizer, template)
        self.counter = TokenCounter(self.card, self.text)


def serve(client: redis.Redis, server: str = "server-1", *, template: str = TEMPLATES["strict"],
          **changes: Any) -> Case:
    """Publish a tiny model; `changes` are of its card."""
    case = Case(bytewise(), template)
    publish(client, server, msgspec.structs.replace(case.card, **changes), case.text)
    return case
