"""Runs a module with another build of the compiled pass.

python -m tests.support.sanitized _places.abi3.so tests.support.alike_fuzz --seconds 30
"""

import importlib.util
import runpy
import sys

import tallybook.transport

NAME = "tallybook.transport._places"


def main(argv: list[str]) -> None:
    """Put the build into the package's place for it, and run the module."""
    path, module, *rest = argv
    spec = importlib.util.spec_from_file_location(NAME, path)
    assert spec is not None, path
    assert spec.loader is not None, path
    built = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(built)
    sys.modules[NAME] = built
    tallybook.transport._places = built
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
