"""transformers by itself: the program of the subjects `generate`, `static batch` and `transformers cb`.

    python write.py MODEL WAY

All take texts and give texts, as the engine does. Prompts are padded on the left where they are batched.
"""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, ContinuousBatchingConfig, GenerationConfig

from app.inputs import ModelInput
from ops.bench.writing import Answer, Load, Written, serve

_PAGE = 256  # tokens, transformers' default; 16 and 64 were tried and are no faster
_BLOCKS = 64  # more than 32 requests of 512 tokens need; transformers itself would fill half of the memory
_PASS_TOKENS = 2048  # as many tokens of prompts in one pass; the prompts of 16 requests fit


class Model:
    """The loaded model, in the three ways there are to have several texts continued."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        if self._tokenizer.pad_token is None:  # any will do: padding is masked
            self._tokenizer.pad_token = self._tokenizer.convert_ids_to_tokens(0)
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").eval()
        self._manager = None

    def one_by_one(self, requests: Sequence[ModelInput]) -> list[Answer]:
        """`generate` for each."""
        return [answer for request in requests for answer in self.static([request])]

    @torch.inference_mode()
    def static(self, requests: Sequence[ModelInput]) -> list[Answer]:
        """`generate` for all of them as one batch."""
        batch = self._tokenizer([request.prompt for request in requests], return_tensors="pt", padding=True)
        width = batch["input_ids"].shape[1]
        output = self._model.generate(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], do_sample=False,
                                      max_new_tokens=requests[0].max_tokens, pad_token_id=self._tokenizer.pad_token_id)
        texts = self._tokenizer.batch_decode(output[:, width:], skip_special_tokens=True)
        return [Answer(prompt_tokens=int(mask.sum()), tokens=output.shape[1] - width, text=text)
                for mask, text in zip(batch["attention_mask"], texts, strict=True)]

    def continuous(self, requests: Sequence[ModelInput]) -> list[Answer]:
        """transformers' continuous batching; its manager goes on running between the loads."""
        if self._manager is None:
            self._manager = self._model.init_continuous_batching(
                generation_config=GenerationConfig(do_sample=False, eos_token_id=-1),
                continuous_batching_config=ContinuousBatchingConfig(
                    page_size=_PAGE, num_blocks=_BLOCKS, max_batch_tokens=_PASS_TOKENS))
            self._manager.start()
        prompts = self._tokenizer([request.prompt for request in requests])["input_ids"]
        ids = self._manager.add_requests(inputs=prompts, max_new_tokens=requests[0].max_tokens)
        ended = {}
        while len(ended) < len(ids):
            result = self._manager.get_result(timeout=1)
            if result is not None and result.is_finished():
                if result.error:
                    raise RuntimeError(result.error)
                ended[result.request_id] = result.generated_tokens
            elif not self._manager.is_running():
                raise RuntimeError("the manager of transformers' continuous batching has ended")
        texts = self._tokenizer.batch_decode([ended[each] for each in ids], skip_special_tokens=True)
        return [Answer(prompt_tokens=len(prompt), tokens=len(ended[each]), text=text)
                for prompt, each, text in zip(prompts, ids, texts, strict=True)]


def written(answer: Callable[[Sequence[ModelInput]], list[Answer]], load: Load) -> Written:
    """Have one request of each caller answered."""
    requests = [request for (request,) in load.callers]
    began_s = time.perf_counter()
    answers = answer(requests)
    return Written(answers=[[each] for each in answers], took_s=time.perf_counter() - began_s)


def main(folder: Path, way: str) -> None:
    """Load the model and serve."""
    torch.set_num_threads(1)
    model = Model(folder)
    ways = {"one-by-one": model.one_by_one, "static": model.static, "continuous": model.continuous}
    serve(lambda load: written(ways[way], load))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
