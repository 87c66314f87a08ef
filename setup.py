"""What is compiled: without a C compiler the package works the same, slower (ADR 0021)."""

from setuptools import Extension, setup

PLACES = Extension(
    "tallybook.transport._places",
    ["src/tallybook/transport/_places.c"],
    py_limited_api=True,
    optional=True,
)

setup(ext_modules=[PLACES], options={"bdist_wheel": {"py_limited_api": "cp311"}})
