"""The tables of the control database, each declared by the module that reads and writes it."""

from sqlalchemy import MetaData

metadata = MetaData()
