"""B9: the second turn of a conversation, when the first is still held and when it is not."""

from app.inputs import Message, ModelInput
from ops.bench.errors import NotAsPromised
from ops.bench.rows.row import Ratio, Row, Series
from ops.bench.subjects import Writer
from ops.bench.writing import Answer, Load

_WORDS = 950  # of the first message, with which a conversation has about 1,000 tokens
_QUESTION_WORDS = 12
_TOKENS = 16
_HELD, _NEW = 0.9, 0.05  # parts of the second turn's prompt that must be, and must not be, held from before


def measure(writer: Writer, _seconds: float, words: int = _WORDS) -> dict[str, float]:
    """Have a second turn after its first, and one of the same size whose first turn another engine would have had."""
    figures, answer = {}, writer.words(_TOKENS)
    for kind, seen in (("held", True), ("new", False)):
        messages = [Message("system", writer.words(_QUESTION_WORDS)), Message("user", writer.words(words))]
        if seen:
            answer = _turn(writer, messages).text
        messages += [Message("assistant", answer), Message("user", writer.words(_QUESTION_WORDS))]
        second = _turn(writer, messages)
        held = second.cached_tokens / second.prompt_tokens
        if held < _HELD if seen else held > _NEW:
            raise NotAsPromised(f"{second.cached_tokens} of {second.prompt_tokens} tokens of a {kind} turn were held")
        figures[f"first text, {kind}, ms"] = 1000 * second.told_s[0]
    return figures


def _turn(writer: Writer, messages: list[Message]) -> Answer:
    request = ModelInput(messages=messages, max_tokens=_TOKENS, temperature=0.0)
    return writer.write(Load(callers=[[request]], listening=True)).all_answers[0]


ROW = Row(
    name="B9", title="second turn", measure=measure, subjects=("engine",),
    how=f"engine and model as in B6; a conversation of about 1,000 tokens: a first message of {_WORDS} words, an answer of "
        f"{_TOKENS} tokens, and then a second message of {_QUESTION_WORDS} words. From the call to the first text of the "
        "second answer, with the first turn asked just before, and for a conversation of the same size of which nothing "
        "was seen.",
    ratios=(
        Ratio(name="B9a", says="first text, the first turn held over not held", at_most=0.25,
              over=Series("engine", "first text, held, ms"), under=Series("engine", "first text, new, ms")),
    ))
