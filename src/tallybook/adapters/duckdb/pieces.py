"""Questions about the quarantine, in the engine's words."""

from tallybook.meter.sql import Param, Sql
from tallybook.meter.usage import PieceFilter

EVENT = "id, source, type, subject, time_us, received_us, commit_seq, data, ext, problem, row_hash"
"""The columns of a stored event, in the order it is made from."""


def listed(tenant: str, asked: PieceFilter, limit: int, before: tuple[int, str, str] | None) -> Sql:
    """Return the question for pieces, newest first, after the place where a page ended."""
    where, params = _where(tenant, asked)
    text = f"SELECT {EVENT} FROM src WHERE {where}"
    if before is not None:
        text += " AND (time_us, source, id) < (?, ?, ?)"
        params += before
    text += " ORDER BY time_us DESC, source DESC, id DESC LIMIT ?"
    return Sql(text, [*params, limit])


def one(tenant: str, commit_seq: int, row_hash: int) -> Sql:
    """Return the question for one piece of a commit."""
    text = (
        f"SELECT {EVENT} FROM src WHERE tenant = ? AND problem IS NOT NULL"
        " AND commit_seq = ? AND row_hash = ? LIMIT 1"
    )
    return Sql(text, [tenant, commit_seq, row_hash])


def counted(tenant: str, asked: PieceFilter) -> Sql:
    """Return the question how many pieces there are of each code."""
    where, params = _where(tenant, asked)
    text = (
        f"SELECT split_part(problem, ': ', 1) AS code, count(*) FROM src WHERE {where}"
        " GROUP BY code ORDER BY code"
    )
    return Sql(text, params)


_SENT_TYPE = "CASE WHEN json_valid(data) THEN json_extract_string(data, '$.type') END"
"""What a refused event was sent as; the lake's own column is empty for it."""


def _where(tenant: str, asked: PieceFilter) -> tuple[str, list[Param]]:
    text, params = "tenant = ? AND problem IS NOT NULL", list[Param]([tenant])
    asks: list[tuple[str, Param | None]] = [
        ("starts_with(problem, ?)", None if asked.code is None else f"{asked.code}: "),
        ("source = ?", asked.source),
        (f"coalesce(nullif(type, ''), {_SENT_TYPE}) = ?", asked.type),
        ("received_us >= ?", asked.from_us),
        ("received_us < ?", asked.to_us),
    ]
    for condition, value in asks:
        if value is not None:
            text += f" AND {condition}"
            params.append(value)
    return text, params
