"""The routes below `/openmeter/api`, and the document that describes them.

They have a document of their own, beside that of our API: the shapes are OpenMeter's.
"""

from functools import cache

import msgspec
from litestar import Litestar, Response, Router, get
from litestar.di import Provide
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme

from tallybook import __version__
from tallybook.compose import World
from tallybook.serve.api.checks import Checks
from tallybook.serve.api.common.access import READ_BOUND
from tallybook.serve.api.common.branch import Branch
from tallybook.serve.api.compat.openmeter.customers import Customers, Subjects, customer_value
from tallybook.serve.api.compat.openmeter.dialect import PREFIX
from tallybook.serve.api.compat.openmeter.events import list_events, page_events
from tallybook.serve.api.compat.openmeter.meters import Meters
from tallybook.serve.api.document.complete import completed

_ABOUT = "Routes in the shapes of OpenMeter's API, for its clients; ours are at `/openapi.json`."


def openmeter_router(*, described: bool = False) -> Router:
    """Return all routes in OpenMeter's shapes.

    Args:
        described: whether the document of the application that has them shows them.
    """
    v1 = Branch("/v1", route_handlers=[Meters, Customers, Subjects])
    return Branch(
        f"{PREFIX}/api",
        route_handlers=[v1, customer_value, list_events, page_events],
        include_in_schema=described,
    )


@get(f"{PREFIX}/openapi.json", opt=READ_BOUND, tags=["system"], sync_to_thread=True)
def openmeter_openapi() -> Response[bytes]:
    """Describe the routes in OpenMeter's shapes: OpenAPI 3.1."""
    return Response(_document(), media_type="application/json")


@cache
def _document() -> bytes:
    bearer = SecurityScheme(type="http", scheme="bearer", description="An API key, tb_…")
    config = OpenAPIConfig(
        title="Tallybook, as OpenMeter",
        version=__version__,
        description=_ABOUT,
        components=Components(security_schemes={"key": bearer}),
        security=[{"key": []}],
        use_handler_docstrings=True,
    )
    app = Litestar(
        [openmeter_router(described=True)],
        openapi_config=config,
        dependencies={
            name: Provide(lambda: None, sync_to_thread=False)
            for name in ("world", "checks", "grant")
        },
        signature_types=[World, Checks],
    )
    return msgspec.json.encode(completed(app.openapi_schema.to_schema(), doors=False))
