"""Fills in a model's chat template, to the letter as transformers does (`transformers.utils.chat_template_utils`, 5.23).

A template comes with a model and is not ours: it runs in Jinja's immutable sandbox, for a limited time, and may make texts
of a limited length only. The limits are looked at wherever the template reads a member, calls something, multiplies,
formats or writes; another filter that makes one huge text by itself escapes them.
"""

import json
import re
import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import do_format
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from app.errors import InvalidInput, TandemError

_MOST_S = 5.0  # for one text; the longest request takes milliseconds
_MOST_CHARACTERS = 2**24  # sixteen times the longest request
_NESTED = re.compile(r"\{[^{}]*\{")  # "{:{}}": the width is one of the values

_until_s: ContextVar[float] = ContextVar("_until_s")  # monotonic; when the template at work must be done


class TemplateUnusable(TandemError):
    """The template is not one, fails, or takes too much: nothing that the messages are to blame for."""

    code = "template-unusable"
    title = "Chat template unusable"


class _Refused(jinja2.TemplateError):
    """The template called `raise_exception`."""


class ChatTemplate:
    """A compiled template. Safe to share between threads."""

    def __init__(self, source: str) -> None:
        """Compile. Raises `TemplateUnusable`."""
        self._takes_tools = "tools" in source
        try:
            self._template = _environment().from_string(source)
        except (jinja2.TemplateError, RecursionError, SyntaxError) as exc:
            raise TemplateUnusable(f"the chat template cannot be compiled: {exc}") from exc

    def render(self, messages: Sequence[Mapping[str, Any]], special_tokens: Mapping[str, Any], *,
               tools: Sequence[Mapping[str, Any]] | None = None) -> str:
        """Return the text that the model gets for these messages and tools, up to where its answer begins.

        Raises `InvalidInput` where the template says that it does not take them, else `TemplateUnusable`.
        """
        if tools and not self._takes_tools:
            raise InvalidInput("the model's chat template takes no tools", pointer="/input/tools")
        token = _until_s.set(time.monotonic() + _MOST_S)
        try:
            return self._render(messages, special_tokens, tools)
        except _Refused as exc:
            raise InvalidInput(f"the model's chat template does not take these messages: {exc}",
                               pointer="/input/messages") from exc
        except TemplateUnusable:
            raise
        except Exception as exc:  # a template can raise whatever Python can
            raise TemplateUnusable(f"the chat template failed ({type(exc).__name__}: {exc})") from exc
        finally:
            _until_s.reset(token)

    def _render(self, messages: Sequence[Mapping[str, Any]], special_tokens: Mapping[str, Any],
                tools: Sequence[Mapping[str, Any]] | None) -> str:
        variables = {**special_tokens, "messages": [dict(message) for message in messages], "tools": tools or None,
                     "documents": None, "add_generation_prompt": True}
        pieces, characters = [], 0
        for piece in self._template.generate(variables):
            characters += len(piece)
            _watch(piece, characters)
            pieces.append(piece)
        return "".join(pieces)


class _Generation(Extension):
    """`{% generation %}` ... `{% endgeneration %}`, which marks what a model is trained to say: here, just its body."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own way

    def parse(self, parser: Parser) -> nodes.Node:
        """Return the body as a call block, a scope of its own, as transformers makes it."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

    def _said(self, caller: Any) -> Any:
        return caller()


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, which looks at the limits."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def getattr(self, obj: Any, attribute: str) -> Any:
        return _watch(super().getattr(obj, attribute))

    def getitem(self, obj: Any, argument: Any) -> Any:
        return _watch(super().getitem(obj, argument))

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - as in Jinja: a
        # template may pass a keyword named `self`
        if isinstance(getattr(__obj, "__self__", None), str | bytes | int):  # str.center and others take a length
            _watch(None, _numbers((args, kwargs)))
        return _watch(super().call(__context, __obj, *args, **kwargs))

    def wrap_str_format(self, value: Any) -> Any:
        form = super().wrap_str_format(value)
        if form is None:
            return None

        def bounded(*args: Any, **kwargs: Any) -> str:
            _watch_widths(value.__self__, (args, kwargs), given=_NESTED.search(value.__self__) is not None)
            text: str = form(*args, **kwargs)
            return text

        return bounded

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        for sequence, times in ((left, right), (right, left)):
            if isinstance(times, int) and hasattr(sequence, "__len__"):
                _watch(None, len(sequence) * times)
        if operator == "**" and isinstance(left, int) and isinstance(right, int):
            _watch(None, left.bit_length() * right)
        if operator == "%" and isinstance(left, str | bytes):
            form = left if isinstance(left, str) else left.decode("latin-1")
            _watch_widths(form, right, given="*" in form)
        return super().call_binop(context, operator, left, right)


class _Namespace(Namespace):
    """`namespace()`, without members that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # Jinja's own way: a member may be named `self`
        for name in (members := dict(*args[1:], **kwargs)):
            _check_name(name)
        Namespace.__init__(args[0], members)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


class _Dict:
    """`dict`, without its attributes."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


def _environment() -> _Sandbox:
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    environment.filters.update(tojson=_to_json, format=_format)
    environment.globals.update(raise_exception=_raise_exception, strftime_now=_strftime_now, dict=_Dict(),
                               namespace=_Namespace)
    return environment


def _watch(value: Any, length: int | None = None) -> Any:
    """Return the value, if there is time left and it is no longer than a text may be. Raises `TemplateUnusable`."""
    if time.monotonic() > _until_s.get():
        raise TemplateUnusable(f"the chat template took more than {_MOST_S:g} s")
    if length is None:
        length = len(value) if isinstance(value, str) else 0
    if length > _MOST_CHARACTERS:
        raise TemplateUnusable(f"the chat template makes a text of {length} characters; {_MOST_CHARACTERS} is the most")
    return value


def _watch_widths(form: str, values: Any, *, given: bool) -> None:
    """Watch what a format asks for: all its numbers are taken for widths, and those among the values where a width can be
    given there."""
    widths = sum(int(digits.lstrip("0")[:20] or 0) for digits in re.findall("[0-9]+", form))
    _watch(None, widths + (_numbers(values) if given else 0))


def _numbers(value: Any) -> int:
    if isinstance(value, int):
        return abs(value)
    if isinstance(value, Mapping):
        return sum(map(_numbers, value.values()))
    return sum(map(_numbers, value)) if isinstance(value, tuple | list) else 0


def _format(form: Any, *args: Any, **kwargs: Any) -> str:
    _watch_widths(str(form), (args, kwargs), given="*" in str(form))
    return do_format(form, *args, **kwargs)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace takes no member '{name}'")


def _raise_exception(message: str) -> NoReturn:
    raise _Refused(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None,
             separators: tuple[str, str] | None = None, sort_keys: bool = False) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
