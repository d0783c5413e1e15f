"""One client as it is registered with one provider, and what its calls give."""

from .grant import Grant
from .openid_provider import OpenIDProvider

__all__ = ["Grant", "OpenIDProvider"]
