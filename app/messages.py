"""A conversation in OpenAI's form, with the tools that it offers: what a request says, and what a chat template is given.

Templates know no developers and no answer formats: a developer's message is a system's, and what the answer has to look
like is added to the system's message in words. Gateway and engine both take it from here, so that they count the same.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta


class Input(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Base of all that callers send."""


class TextPart(Input, tag_field="type", tag="text"):
    """A part of a message's content. The models served read text, so there are no pictures."""

    text: str


class RefusalPart(Input, tag_field="type", tag="refusal"):
    """What an assistant said instead of an answer."""

    refusal: str

    @property
    def text(self) -> str:
        """The same, as text."""
        return self.refusal


class FunctionCall(Input):
    """A function and its arguments, which are JSON as text."""

    name: Annotated[str, Meta(min_length=1)]
    arguments: str


class ToolCall(Input):
    """A call that an assistant asked for."""

    id: str
    function: FunctionCall
    type: Literal["function"] = "function"


class Message(Input):
    """One turn of a conversation. Only an assistant that calls tools has no content, and only an assistant's or a tool's
    may be empty."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart | RefusalPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None  # SDKs send an earlier answer back whole; from here on nothing is said to a model
    reasoning_content: str | None = None
    annotations: Any = None
    audio: None = None
    function_call: None = None

    def __post_init__(self) -> None:
        if self.content is None and not (self.role == "assistant" and self.tool_calls):
            raise ValueError("Object missing required field `content`")
        if not self.text and self.role not in ("assistant", "tool"):
            raise ValueError(f"the `content` of a message with the role {self.role} must have a length >= 1")
        if self.tool_calls and self.role != "assistant":
            raise ValueError("only an assistant's message has `tool_calls`")
        if self.role == "tool" and not self.tool_call_id:
            raise ValueError("a tool's message needs the `tool_call_id` of the call that it answers")

    @property
    def text(self) -> str:
        """The content as one text, empty where there is none."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content or ())


class FunctionTool(Input):
    """A function that the model may call. `parameters` is a JSON schema."""

    name: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+(?!\n)$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Input):
    """A tool that is offered."""

    type: Literal["function"]
    function: FunctionTool


class FunctionName(Input):
    """Names a function."""

    name: str


class NamedTool(Input):
    """Asks for a call of this function."""

    type: Literal["function"]
    function: FunctionName


ToolChoice = Literal["none", "auto", "required"] | NamedTool


class TextFormat(Input, tag_field="type", tag="text"):
    """Any text."""


class JsonObjectFormat(Input, tag_field="type", tag="json_object"):
    """A JSON object."""


class JsonSchema(Input, omit_defaults=True):
    """A named JSON schema."""

    name: str
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class JsonSchemaFormat(Input, tag_field="type", tag="json_schema"):
    """JSON that fits a schema."""

    json_schema: JsonSchema


ResponseFormat = TextFormat | JsonObjectFormat | JsonSchemaFormat


def turns(messages: Sequence[Message], *, parsed: bool) -> list[dict[str, Any]]:
    """Return messages as a chat template takes them. Some templates want a call's arguments `parsed`, others as text."""
    return [_turn(message, parsed=parsed) for message in messages]


def forms(messages: Sequence[Message]) -> list[list[dict[str, Any]]]:
    """Return the messages in each form that a chat template may take: the next is for where the one before fails."""
    called = any(message.tool_calls for message in messages)
    return [turns(messages, parsed=parsed) for parsed in ((True, False) if called else (True,))]


def with_instructions(messages: Sequence[Message], instructions: Sequence[str]) -> list[Message]:
    """Return messages whose system message ends with these instructions."""
    if not instructions:
        return list(messages)
    said = "\n\n".join(instructions)
    first = messages[0] if messages and messages[0].role in ("system", "developer") else None
    if first is None:
        return [Message(role="system", content=said), *messages]
    return [msgspec.structs.replace(first, content=f"{first.text}\n\n{said}"), *messages[1:]]


def instructions(response_format: ResponseFormat | None, tool_choice: ToolChoice | None) -> list[str]:
    """Return in words what the answer has to look like."""
    said = []
    if isinstance(response_format, JsonObjectFormat):
        said.append("Answer with one valid JSON object and nothing else: no Markdown, no explanation.")
    if isinstance(response_format, JsonSchemaFormat):
        asked = response_format.json_schema
        said.append("Answer with valid JSON and nothing else: no Markdown, no explanation."
                    + (f" {asked.description}" if asked.description else "")
                    + (f" The JSON must fit this JSON schema:\n{msgspec.json.encode(asked.schema).decode()}"
                       if asked.schema is not None else ""))
    if tool_choice == "required":
        said.append("Answer by calling one of the tools.")
    if isinstance(tool_choice, NamedTool):
        said.append(f"Answer by calling the tool {tool_choice.function.name}.")
    return said


def _turn(message: Message, *, parsed: bool) -> dict[str, Any]:
    role = "system" if message.role == "developer" else message.role
    turn: dict[str, Any] = {"role": role, "content": message.text}
    if message.tool_calls:
        turn["content"] = turn["content"] or None
        turn["tool_calls"] = [_call(call, parsed=parsed) for call in message.tool_calls]
    turn |= {name: value for name in ("name", "tool_call_id") if (value := getattr(message, name)) is not None}
    return turn


def _call(call: ToolCall, *, parsed: bool) -> dict[str, Any]:
    arguments: Any = call.function.arguments
    if parsed:
        try:
            arguments = msgspec.json.decode(arguments or "{}")
        except msgspec.DecodeError:
            arguments = call.function.arguments  # a model wrote it
    return {"id": call.id, "type": call.type, "function": {"name": call.function.name, "arguments": arguments}}
