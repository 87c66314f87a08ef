"""The routes below `/openmeter/api`; the OpenAPI document leaves them out: it is OpenMeter's."""

from litestar import Router

from tallybook.serve.api.compat.openmeter.customers import Customers, Subjects, customer_value
from tallybook.serve.api.compat.openmeter.dialect import PREFIX
from tallybook.serve.api.compat.openmeter.events import list_events, page_events
from tallybook.serve.api.compat.openmeter.meters import Meters


def openmeter_router() -> Router:
    """Return all routes in OpenMeter's shapes."""
    v1 = Router("/v1", route_handlers=[Meters, Customers, Subjects])
    return Router(
        f"{PREFIX}/api",
        route_handlers=[v1, customer_value, list_events, page_events],
        include_in_schema=False,
    )
