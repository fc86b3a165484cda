"""Errors as Bedrock sends them: a name, a status and a sentence."""

from __future__ import annotations

from typing import Any

_STATUS = {
    "AccessDeniedException": 403,
    "ExpiredTokenException": 403,
    "IncompleteSignatureException": 403,
    "InternalServerException": 500,
    "InvalidSignatureException": 403,
    "MissingAuthenticationTokenException": 403,
    "ModelErrorException": 424,
    "ModelNotReadyException": 429,
    "ModelStreamErrorException": 424,
    "ModelTimeoutException": 408,
    "ResourceNotFoundException": 404,
    "ServiceQuotaExceededException": 400,
    "ServiceUnavailableException": 503,
    "ThrottlingException": 429,
    "UnknownOperationException": 404,
    "UnrecognizedClientException": 403,
    "ValidationException": 400,
    "overloaded_error": 529,
}


class AwsError(Exception):
    """The answer to a request is this error. `extra` are members of the body beside `message`."""

    def __init__(
        self, code: str, message: str, *, status: int | None = None, extra: dict[str, Any] | None = None
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status if status is not None else _STATUS.get(code, 400)
        self.extra = extra or {}

    @property
    def document(self) -> dict[str, Any]:
        """The JSON body."""
        return {"message": self.message, **self.extra}


def invalid(message: str) -> AwsError:
    """A request that is wrong, and would be wrong again."""
    return AwsError("ValidationException", message)


def malformed(detail: str) -> AwsError:
    """A body whose shape the model family does not know."""
    return invalid(f"Malformed input request: {detail}, please reformat your input and try again.")
