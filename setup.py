"""What is compiled: without a C compiler the package works the same, slower (ADR 0021)."""

from setuptools import Extension, setup

FOLDER = "src/tallybook/transport"
PLACES = Extension(
    "tallybook.transport._places",
    [f"{FOLDER}/_places.c", f"{FOLDER}/_scan.c"],
    depends=[f"{FOLDER}/_scan.h"],
    py_limited_api=True,
    optional=True,
)

setup(ext_modules=[PLACES], options={"bdist_wheel": {"py_limited_api": "cp311"}})
