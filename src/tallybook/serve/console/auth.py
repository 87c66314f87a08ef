"""Signing in with a password or a key, signing out, and the style sheet."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.datastructures import Cookie
from litestar.enums import RequestEncodingType
from litestar.params import Body
from litestar.response import Redirect
from litestar.types import ControllerRouterHandler

from tallybook.admit.user import named
from tallybook.serve.api.gate import PERSON, Grant
from tallybook.serve.console.access import OPEN_PAGE, PAGE, session_of
from tallybook.serve.console.entering import entered
from tallybook.serve.console.render import html
from tallybook.serve.console.session import (
    COOKIE,
    KNOWN_COOKIE,
    KNOWN_SECONDS,
    LIFE_SECONDS,
    check_form,
    check_origin,
    known_browser,
    local_path,
    new_cookie,
    new_known,
)

Form = Annotated[dict[str, str], Body(media_type=RequestEncodingType.URL_ENCODED)]


@get("/login", opt=OPEN_PAGE, sync_to_thread=True)
def login_page(next: str = "/") -> Response[bytes]:
    """Ask for a name and password, or a key."""
    return html("login.html", wrong=False, next=local_path(next), session=None, here="")


@post("/login", opt=OPEN_PAGE, sync_to_thread=True)
def login(request: "Request[Any, Any, Any]", data: Form) -> Response[Any]:
    """Start a session where name and password, or the key, are good."""
    check_origin(request.headers.get("origin"), request.headers.get("host", ""))
    state, following = request.app.state, local_path(data.get("next", "/"))
    grant = _grant(request, data)
    if grant is None or grant.bound or not grant.allows("read"):
        return html("login.html", 401, wrong=True, next=following, session=None, here="")
    epoch, now_us = state.gate.epoch(grant.key_id), state.world.clock.now_us()
    session = new_cookie(state.world.secret, grant, now_us, epoch)
    cookies = [_cookie(request, COOKIE, session, LIFE_SECONDS)]
    if grant.key_id.startswith(PERSON):
        person = grant.key_id.removeprefix(PERSON)
        known = new_known(state.world.secret, person, state.world.ids.new("browser"))
        cookies.insert(0, _cookie(request, KNOWN_COOKIE, known, KNOWN_SECONDS))
    return Redirect(following, status_code=303, cookies=cookies)


def _cookie(request: "Request[Any, Any, Any]", key: str, value: str, seconds: int) -> Cookie:
    """Return a cookie that no script reads, and no plain connection carries behind TLS."""
    outside = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    secure = "https" in {request.url.scheme, outside}
    return Cookie(
        key=key, value=value, httponly=True, samesite="strict", secure=secure, max_age=seconds
    )


def _grant(request: "Request[Any, Any, Any]", data: Mapping[str, str]) -> Grant | None:
    state, name = request.app.state, data.get("name", "").strip()
    if not name:
        found: Grant | None = state.gate.grant(data.get("key", "").strip())
        return found
    address = request.client.host if request.client else "-"
    person = "/".join(named(name))
    browser = known_browser(state.world.secret, person, request.cookies.get(KNOWN_COOKIE))
    return entered(state.world, state.gate, name, data.get("password", ""), address, browser)


@post("/logout", opt=PAGE, sync_to_thread=True)
def logout(request: "Request[Any, Any, Any]", data: Form) -> Redirect:
    """End the session in this browser."""
    check_form(session_of(request), data.get("token", ""))
    answer = Redirect("/login", status_code=303)
    answer.delete_cookie(COOKIE)
    return answer


@cache
def _style() -> bytes:
    return files("tallybook.serve.console").joinpath("static/console.css").read_bytes()


@get("/static/console.css", opt=OPEN_PAGE, sync_to_thread=True)
def style() -> Response[bytes]:
    """Return the style sheet."""
    headers = {"cache-control": "public, max-age=300"}
    return Response(_style(), media_type="text/css; charset=utf-8", headers=headers)


ROUTES: list[ControllerRouterHandler] = [login_page, login, logout, style]
