"""The API's own description, OpenAPI 3.1: what the routes declare, and all that holds for each."""
