"""Starlette: the middleware, its routes, and the session of a request."""
