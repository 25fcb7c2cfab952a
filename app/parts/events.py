"""How the app's events are queued: those that use the model, and those that only move things."""

from __future__ import annotations

from typing import Any

QUEUE = "model"
"""All events that use the model share this queue, and one runs at a time."""

QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""For events that only move things about on the page: at once, unseen, and no endpoint."""
