"""Every table of the control database: importing this module declares them all."""

import importlib
import pkgutil

from sqlalchemy import MetaData

from tallybook.adapters import sql
from tallybook.adapters.sql.schema.declared import metadata

_NOT_TABLES = "tallybook.adapters.sql.schema"


def every_table() -> MetaData:
    """Return the metadata with every table of the folder declared."""
    for module in pkgutil.walk_packages(sql.__path__, f"{sql.__name__}."):
        if not module.name.startswith(_NOT_TABLES):
            importlib.import_module(module.name)
    return metadata
