"""An API that wants an access token."""
