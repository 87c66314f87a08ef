"""In-memory adapters: the fakes of the tests, held to the same contract suites."""
