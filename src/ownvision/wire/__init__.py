"""How rows and values look to those outside: the API's JSON, for the API itself and for takeouts. It knows no HTTP."""
