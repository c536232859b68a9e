"""The exceptions that Headrace raises.

HeadraceError
├── SettingError            a setting is missing or wrong
├── ContractError           an event breaks the contract (names field, allowed, got)
├── EngineError             the database cannot be started, reached or changed
│   ├── BrokerError         the brokers of Kafka cannot be reached, or refuse
│   └── OvertakenError      another consumer has stored these messages already
├── BusyError               too much waits in memory; send again later
├── ModelError              a model, version or artifact cannot be used
│   ├── NotServedError      no version of the model is in the plan
│   ├── NotLoadedError      the plan has a version, but none could be loaded yet
│   └── StoppedError        the program of a version ended, or does not answer
├── NothingToLearnError     the labels of a claim make no training set
├── LostClaimError          another trainer has taken the claim over
├── DeliveryError           events could not be delivered to the gateway
├── GrafanaError            Grafana refused or is no Grafana
├── AlertError              a receiver of alerts cannot be reached, or may not be
└── MissingPackageError     a package that an extra brings is not installed
"""

from __future__ import annotations


class HeadraceError(Exception):
    """Base of all errors that Headrace raises on purpose; the text is one line for the user."""


class SettingError(HeadraceError):
    """A setting is missing or has a value that is not allowed."""


class EngineError(HeadraceError):
    """The database cannot be started, reached or changed."""


class BrokerError(EngineError):
    """The brokers cannot be reached, or refuse."""


class OvertakenError(EngineError):
    """Another consumer has stored these messages of Kafka, or later ones, already."""


class BusyError(HeadraceError):
    """The queue is full: wait and send again."""

    retry_after_s = 1


class ModelError(HeadraceError):
    """A model, a version of it or an artifact cannot be used."""


class NotServedError(ModelError):
    """No version of the model is in the plan."""


class NotLoadedError(ModelError):
    """The plan has a version, but none could be loaded yet."""


class StoppedError(ModelError):
    """The program of a version ended, or does not answer: to ask at once again does not help."""


class NothingToLearnError(HeadraceError):
    """The labels known at a claim do not make a training set."""


class LostClaimError(HeadraceError):
    """Another trainer has taken the claim over, so nothing was published."""


class DeliveryError(HeadraceError):
    """Events could not be delivered to the gateway."""


class GrafanaError(HeadraceError):
    """Grafana cannot be reached or refuses; the text says what to do next."""


class AlertError(HeadraceError):
    """A receiver of alerts cannot be reached, or may not be; the text holds no secret."""


class MissingPackageError(HeadraceError):
    """A package is not installed that comes with an extra of `headrace`."""

    def __init__(self, module: str, *extras: str) -> None:
        super().__init__(
            f"{module} is missing: this needs `pip install 'headrace[{','.join(extras)}]'`"
        )


class ContractError(HeadraceError):
    """An event breaks the contract.

    Attributes:
        field: path of the offending field, e.g. ``features.age``; empty for the whole event.
        allowed: what would have been accepted.
        got: what came, shortened.
    """

    def __init__(self, field: str, allowed: str, got: object) -> None:
        self.field = field.encode(errors="backslashreplace").decode()  # lone surrogates
        self.allowed = allowed
        self.got = shorten(got)
        super().__init__(f"{self.field or 'event'}: must be {allowed}, got {self.got}")


def shorten(value: object, limit: int = 80) -> str:
    """Return a printable form of `value`, at most `limit` characters long."""
    try:
        text = ascii(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, endless nesting
        text = f"a {type(value).__name__}"
    return text if len(text) <= limit else text[: limit - 1] + "…"


def one_line(error: BaseException) -> str:
    """Return the text of an error on one line, or its class if it has no text."""
    return " ".join(str(error).split()) or type(error).__name__


def stored_line(error: BaseException, limit: int = 500) -> str:
    """Return the text of an error on one line that a database can hold."""
    line = one_line(error).replace("\0", "").encode(errors="backslashreplace").decode()
    return line if len(line) <= limit else line[: limit - 1] + "…"
