"""What a caller may ask: OpenAI's schema, checked before any provider hears of it."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mana_actors.json_values import JsonObject, as_list, as_object, objects_in

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]


class InvalidRequest(Exception):
    """A request does not fit the schema; names the field and never shows its value."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)
        self.field, self.problem = field, problem

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}"


class TextPart(msgspec.Struct, tag="text"):
    """A piece of text."""

    text: str


class ImageUrl(msgspec.Struct):
    """Where an image is, often a data: URL."""

    url: str


class ImagePart(msgspec.Struct, tag="image_url"):
    """A picture."""

    image_url: ImageUrl


class CalledFunction(msgspec.Struct):
    """A tool an assistant called, with its arguments as JSON text."""

    name: str
    arguments: str = ""


class CalledTool(msgspec.Struct):
    """One call of an assistant turn."""

    id: str
    function: CalledFunction
    type: Literal["function"] = "function"


class Message(msgspec.Struct):
    """One turn."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | list[TextPart | ImagePart] | None = None
    tool_call_id: str | None = None
    tool_calls: list[CalledTool] | None = None


class OfferedFunction(msgspec.Struct):
    """A tool as it is offered."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None


class OfferedTool(msgspec.Struct):
    """An offered tool; functions are the only kind."""

    type: Literal["function"]
    function: OfferedFunction


class Choice(msgspec.Struct):
    """The tool a model must call."""

    type: Literal["function"]
    function: OfferedFunction


class PlainText(msgspec.Struct, tag="text"):
    """No format at all."""


class AnyJson(msgspec.Struct, tag="json_object"):
    """Some JSON object."""


class Schema(msgspec.Struct):
    """A named JSON schema."""

    name: Name
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class JsonOfSchema(msgspec.Struct, tag="json_schema"):
    """JSON that fits a schema."""

    json_schema: Schema


class ChatRequest(msgspec.Struct):
    """The known keys of a chat-completions request; unknown ones travel on unread."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    model: str | None = None
    stream: bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Meta(gt=0, le=100_000_000)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    stop: str | list[str] | None = None
    response_format: PlainText | AnyJson | JsonOfSchema | None = None
    tools: list[OfferedTool] | None = None
    tool_choice: Literal["auto", "none", "required"] | Choice | None = None


class EmbeddingsRequest(msgspec.Struct):
    """The known keys of an embeddings request."""

    input: str | Annotated[list[str | int | list[int]], Meta(min_length=1)]
    model: Name


def chat_request(body: JsonObject) -> JsonObject:
    """A chat-completions request as it was sent; raises InvalidRequest.

    Parts of an assistant's turn that only its model can read are nobody else's business.
    """
    messages = as_list(body.get("messages"))
    for place, given in enumerate(messages):
        message = as_object(given) or {}
        if message.get("role") == "assistant" and objects_in(parts := message.get("content")):
            known = [
                each
                for each in as_list(parts)
                if (part := as_object(each)) is None or part.get("type") in ("text", "image_url")
            ]
            messages[place] = message | {"content": known}
    _checked(body | {"messages": messages} if messages else body, ChatRequest)
    return body


def embeddings_request(body: JsonObject) -> JsonObject:
    """An embeddings request as it was sent; raises InvalidRequest."""
    return _checked(body, EmbeddingsRequest)


def _checked(body: JsonObject, schema: type[msgspec.Struct]) -> JsonObject:
    try:
        msgspec.convert(body, schema)
    except RecursionError:
        raise InvalidRequest("body", "is nested too deeply") from None
    except msgspec.ValidationError as exc:
        # The text reads "Expected `int` >= 1 - at `$.max_tokens`".
        problem, _, place = str(exc).partition(" - at ")
        field = place.strip("`").removeprefix("$").lstrip(".")
        if "missing required field" in problem:
            name = problem.rpartition("field ")[2].strip("`")
            raise InvalidRequest(f"{field}.{name}" if field else name, "is missing") from None
        if problem.startswith("Invalid"):  # it would repeat what was sent
            problem = "is not one of the known values"
        elif "`, got" in problem:
            problem = problem.partition(", got")[0]
        words = problem.replace("`", "").replace("Expected", "expected")
        raise InvalidRequest(field or "body", words) from None
    return body
