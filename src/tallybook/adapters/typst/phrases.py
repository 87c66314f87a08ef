"""The steps of a price in the reader's language.

Rating explains itself in English sentences; each kind of sentence has its translation here. One
that is not listed stays as it is.
"""

import re
from collections.abc import Callable

import msgspec


class Phrase(msgspec.Struct, frozen=True):
    """One kind of sentence; groups of the pattern are filled in, numbers spelled as the locale."""

    pattern: re.Pattern[str]
    words: dict[str, str]


_N = r"(-?\d+(?:\.\d+)?)"
_NUMBER = re.compile(rf"{_N}|\d{{4}}-\d\d-\d\d\S*")


def _phrase(pattern: str, de: str, fr: str, ja: str) -> Phrase:
    ready = re.compile(pattern.replace("#", _N), re.DOTALL)
    return Phrase(ready, {"de": de, "fr": fr, "ja": ja})


PHRASES = (
    _phrase(
        r"tier #, all units, (.+)",
        "Stufe {0}, alle Einheiten, {1}",
        "Tranche {0}, toutes les unités, {1}",
        "第{0}段階、全量、{1}",
    ),
    _phrase(r"tier #, (.+), flat", "Stufe {0}, {1}, pauschal", "Tranche {0}, {1}, forfait",
            "第{0}段階、{1}、定額"),
    _phrase(r"tier #, (.+)", "Stufe {0}, {1}", "Tranche {0}, {1}", "第{0}段階、{1}"),
    _phrase(r"# % of (.+)", "{0} % von {1}", "{0} % de {1}", "{1}の {0} %"),
    _phrase(r"over # up to #", "über {0} bis {1}", "de plus de {0} à {1}", "{0} 超 {1} まで"),
    _phrase(r"over #", "über {0}", "au-delà de {0}", "{0} 超"),
    _phrase(r"up to #", "bis {0}", "jusqu’à {0}", "{0} まで"),
    _phrase(r"any quantity", "jede Menge", "toute quantité", "数量を問わず"),
    _phrase(r"fixed fee", "Grundgebühr", "abonnement", "基本料金"),
    _phrase(r"# in packages of #", "{0} in Paketen zu {1}", "{0} par lots de {1}",
            "{0} を {1} 単位で"),
    _phrase(r"# of # free units used, # to pay",
            "{0} von {1} freien Einheiten genutzt, {2} zu zahlen",
            "{0} unités gratuites sur {1} utilisées, {2} à payer",
            "無料枠 {1} のうち {0} を使用、課金対象 {2}"),
    _phrase(r"# of # are free", "{0} von {1} sind frei", "{0} sur {1} sont gratuits",
            "{1} のうち {0} は無料"),
    _phrase(r"the rest", "dem Rest", "le reste", "残り"),
    _phrase(r"discount of # %", "Nachlass {0} %", "remise de {0} %", "{0} % 割引"),
    _phrase(r"maximum of #", "höchstens {0}", "plafonné à {0}", "上限 {0}"),
    _phrase(r"the minimum of # is due when the period is over",
            "der Mindestbetrag von {0} wird am Ende des Zeitraums fällig",
            "le minimum de {0} est dû à la fin de la période",
            "最低料金 {0} は期間終了時に請求されます"),
    _phrase(r"minimum of # × # of # (.+)", "Mindestbetrag {0}, {1} von {2} {3}",
            "minimum de {0}, {1} sur {2} {3}", "最低料金 {0}({3} {1}/{2})"),
    _phrase(r"minimum of #", "Mindestbetrag {0}", "minimum de {0}", "最低料金 {0}"),
    _phrase(r"nothing was used", "nichts verbraucht", "aucune consommation", "使用なし"),
    _phrase(r"never below nothing", "nie unter null", "jamais inférieur à zéro", "下限ゼロ"),
    _phrase(r"ended before it began", "vor Beginn beendet",
            "terminé avant le début", "開始前に終了"),
    _phrase(r"# of # days", "{0} von {1} Tagen", "{0} jours sur {1}", "{1} 日中 {0} 日"),
    _phrase(r"# of # hours", "{0} von {1} Stunden", "{0} heures sur {1}", "{1} 時間中 {0} 時間"),
    _phrase(r"committed", "Zugesagt", "engagement", "最低利用額"),
    _phrase(r"charged", "berechnet", "facturé", "請求額"),
    _phrase(r"from (\d{4}-\d\d-\d\d\S*)", "ab {0}", "à partir du {0}", "{0} から"),
    _phrase(r"fixed amount of (.+)", "fester Betrag für {0}", "montant fixe pour {0}",
            "{0}の固定額"),
    _phrase(r"at least, for (.+)", "mindestens, für {0}", "au moins, pour {0}", "下限、{0}"),
    _phrase(r"at most, for (.+)", "höchstens, für {0}", "au plus, pour {0}", "上限、{0}"),
    _phrase(r"1 event free", "1 Ereignis frei", "1 événement gratuit", "1 件無料"),
    _phrase(r"# events free", "{0} Ereignisse frei", "{0} événements gratuits", "{0} 件無料"),
    _phrase(r"1 event", "1 Ereignis", "1 événement", "1 件"),
    _phrase(r"# events", "{0} Ereignisse", "{0} événements", "{0} 件"),
    _phrase(r"# ÷ # = #", "{0} ÷ {1} = {2}", "{0} ÷ {1} = {2}", "{0} ÷ {1} = {2}"),
    _phrase(r"# × # = #", "{0} × {1} = {2}", "{0} × {1} = {2}", "{0} × {1} = {2}"),
    _phrase(r"# %", "{0} %", "{0} %", "{0} %"),
    _phrase(r"days", "Tagen", "jours", "日"),
    _phrase(r"(\S+) at #", "{0} zu {1}", "{0} à {1}", "{0} 単価 {1}"),
    _phrase(r"(.+), rounded up to #", "{0}, aufgerundet auf {1}", "{0}, arrondi à {1}",
            "{0}、{1} に切り上げ"),
    _phrase(r"(.+), rounded down to #", "{0}, abgerundet auf {1}", "{0}, arrondi à {1}",
            "{0}、{1} に切り捨て"),
    _phrase(r"(.+), rounded to #", "{0}, gerundet auf {1}", "{0}, arrondi à {1}",
            "{0}、{1} に四捨五入"),
)  # fmt: skip


def translated(text: str, language: str, spell: Callable[[str], str]) -> str:
    """Return a sentence of a step in a language, its numbers spelled.

    Args:
        text: a sentence, or the part of one that stands before its sum.
        language: such as 'de'; in one without translations only the numbers change.
        spell: returns a plain number, or an ISO date, as the locale writes it.
    """
    if _NUMBER.fullmatch(text):
        return spell(text)
    for phrase in PHRASES:
        found = phrase.pattern.fullmatch(text)
        if found is not None:
            parts = [translated(part, language, spell) for part in found.groups()]
            return phrase.words.get(language, _template(found)).format(*parts)
    return text


def _template(found: re.Match[str]) -> str:
    """Return the sentence itself with places to fill in."""
    text, at = "", 0
    for number in range(found.re.groups):
        start, end = found.span(number + 1)
        text += f"{_plain(found.string[at:start])}{{{number}}}"
        at = end
    return text + _plain(found.string[at:])


def _plain(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
