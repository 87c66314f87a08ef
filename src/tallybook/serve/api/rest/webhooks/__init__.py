"""Facts told outside: endpoints, what became of each delivery, and sending again."""

from litestar.types import ControllerRouterHandler

from tallybook.serve.api.rest.webhooks.deliveries import Deliveries
from tallybook.serve.api.rest.webhooks.endpoints import Webhooks

ROUTES: tuple[ControllerRouterHandler, ...] = (Webhooks, Deliveries)
