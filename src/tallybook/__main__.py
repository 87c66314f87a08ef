"""`python -m tallybook` is the `tallybook` command."""

from tallybook.serve.cli.main import main

if __name__ == "__main__":
    main()
