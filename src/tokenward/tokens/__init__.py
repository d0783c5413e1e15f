"""How a token lives: given at login, kept fresh, given back."""
