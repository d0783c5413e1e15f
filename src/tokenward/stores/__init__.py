"""Where things rest: implementations of `Store`, each imported from its own module."""
