"""The Gradio app: see what guidance does. `serve` starts it; Gradio is imported only then."""

from adhere.app.jobs.limits import Limits
from adhere.app.serving.server import Address, serve

__all__ = ["Address", "Limits", "serve"]
