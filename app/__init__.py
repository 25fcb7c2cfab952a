"""The Gradio app: see what guidance does. `serve` starts it; Gradio is imported only then."""

from adhere.app.serving.server import serve

__all__ = ["serve"]
