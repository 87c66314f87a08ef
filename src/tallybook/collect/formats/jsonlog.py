"""Access-log lines that are JSON objects: nginx `escape=json`, Caddy, Traefik and the like.

Each fact is looked for under the names the known servers use, first found wins. Client, time and
status are required; a missing byte count is null (a problem of the meter), never 0.
"""

import json
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation

import msgspec

from tallybook.collect.formats.accesslog import RequestData, request_record, split_request
from tallybook.collect.formats.moments import moment
from tallybook.collect.lines import Record
from tallybook.kernel.decimals import parse_decimal
from tallybook.kernel.limits import ATTRIBUTE_CHARS_MAX
from tallybook.kernel.problem import Problem

_CLIENT = "remote_addr client_ip remote_ip clientip client_addr ClientHost client remote_host"
_TIME = "time time_iso8601 timestamp @timestamp StartUTC ts msec time_local"
_STATUS = "status status_code response_status DownstreamStatus"
_BYTES = "body_bytes_sent bytes bytes_sent size response_size DownstreamContentSize"
_METHOD = "method request_method RequestMethod"
_PATH = "path request_uri uri url RequestPath"
_PROTOCOL = "protocol server_protocol proto RequestProtocol"
_REFERER = "referer http_referer referrer request_Referer Referer"
_AGENT = "user_agent http_user_agent agent request_User-Agent User-Agent"
_USER = "remote_user user user_id ClientUsername"
_WHOLE_MAX = Decimal(10) ** 18


class DuplicateKeyError(ValueError):
    """A JSON object names one key twice, so what it says is not known."""


def parse_json(text: str) -> Record | Problem:
    """Return what a JSON access-log line says."""
    if not text.strip():
        return Problem(code="line-empty", message="the line is empty")
    found = json_object(text)
    return found if isinstance(found, Problem) else _request(_flat(found))


def json_object(text: str) -> dict[str, object] | Problem:
    """Return the JSON object of a line, numbers exact; a key that occurs twice is refused."""
    found = json_value(text)
    if isinstance(found, Problem):
        return found
    if not isinstance(found, dict):
        return Problem(code="line-malformed", message="the line is not a JSON object")
    return found


def json_value(text: str) -> object:
    """Return any JSON value, numbers exact, or a Problem; see `json_object`."""
    try:
        return json.loads(
            text, parse_float=_exact, parse_constant=_no_constant, object_pairs_hook=_once
        )
    except (ValueError, RecursionError) as error:
        return Problem(code="line-malformed", message=f"the line is not JSON: {error}")


def printable(value: object) -> str | None:
    """Return a JSON scalar as text without lone surrogates; None for null, '' and '-'."""
    if value is None or isinstance(value, dict | list | bool) or value in {"", "-"}:
        return None
    return str(value).encode("utf-8", "backslashreplace").decode()


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise DuplicateKeyError("a key occurs twice")
    return found


def _exact(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as error:  # its exponent has more than 18 digits
        raise ValueError(f"{text[:40]} is no number to count with") from error


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON number")


def _flat(line: dict[str, object]) -> dict[str, object]:
    """Lift what Caddy nests in `request`, and its header lists, to the top."""
    nested = line.get("request")
    if not isinstance(nested, dict):
        return line
    headers = nested.get("headers")
    firsts = _first_values(headers.items()) if isinstance(headers, dict) else {}
    return {**firsts, **nested, **{k: v for k, v in line.items() if k != "request"}}


def _first_values(headers: Iterable[tuple[str, object]]) -> dict[str, object]:
    return {name: v[0] for name, v in headers if isinstance(v, list) and v}


def _first(line: dict[str, object], names: str) -> object:
    return next((line[name] for name in names.split() if line.get(name) is not None), None)


def _whole(value: object) -> int | None:
    if value == "-":
        return 0
    number = parse_decimal(str(value)) if isinstance(value, str | int | Decimal) else None
    if number is None or isinstance(value, bool) or number != number.to_integral_value():
        return None
    return int(number) if 0 <= number < _WHOLE_MAX else None


def _request(line: dict[str, object]) -> Record | Problem:
    client = printable(_first(line, _CLIENT))
    if client is None or len(client) > ATTRIBUTE_CHARS_MAX or not client.isprintable():
        return _missing("client", "remote_addr")
    time = moment(_first(line, _TIME))
    if time is None:
        return _missing("time", "time")
    status = _whole(_first(line, _STATUS))
    if status is None:
        return _missing("status", "status")
    return request_record(_data(line, status), client, time)


def _data(line: dict[str, object], status: int) -> RequestData:
    method, path, protocol = split_request(printable(_first(line, "request")) or "")
    user = printable(_first(line, _USER))
    return RequestData(
        method=printable(_first(line, _METHOD)) or method,
        path=printable(_first(line, _PATH)) or path,
        status=status,
        bytes=_whole(_first(line, _BYTES)),
        protocol=printable(_first(line, _PROTOCOL)) or protocol,
        referer=printable(_first(line, _REFERER)),
        user_agent=printable(_first(line, _AGENT)),
        user=msgspec.UNSET if user is None else user,
    )


def _missing(fact: str, example: str) -> Problem:
    message = f"the line has no usable {fact}, such as in '{example}'"
    return Problem(code="line-field", subject=fact, message=message)
