"""Webhooks: who is told facts, how well that goes, every attempt, and sending again."""

from litestar.types import ControllerRouterHandler

from tallybook.serve.console.post import commands, pages

ROUTES: list[ControllerRouterHandler] = [*pages.ROUTES, *commands.ROUTES]
