"""The hub, asked once: its own loaders ask a hub that is silent again and again, for minutes."""

from __future__ import annotations

from pathlib import Path

from adhere.errors import ModelError, first_line
from adhere.files import at_home


def is_local(source: str) -> bool:
    """Whether a model is a path and no hub id, also where nothing lies there."""
    return at_home(source).exists() or source.startswith((".", "/", "~")) or source.count("/") > 1


def check_answers(source: str, revision: str | None = None) -> None:
    """Refuse a hub id of which nothing is in the cache while the hub does not answer.

    A hub that answers, whatever it says, is left to the loader, and so is a name that is no hub id.

    Args:
        source: a folder, or a hub id.
        revision: branch, tag or commit; the main branch if left out.

    Raises:
        ModelError: there is no network, or the hub may not be asked (`HF_HUB_OFFLINE`).
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    if is_local(source):
        return
    try:
        if _is_cached(source):
            return
        # Any file does: that there is none is an answer, too.
        url = hf_hub_url(source, "config.json", revision=revision)
        get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except (HfHubHTTPError, ValueError):
        return
    except Exception as error:  # of whatever HTTP library the hub's package has this year
        raise ModelError(
            f"{source!r} is no folder here and not in the hub's cache, and the hub cannot be asked "
            f"({first_line(error) or type(error).__name__}); check the name and the network, or "
            "give a folder"
        ) from error


def _is_cached(source: str) -> bool:
    """Whether anything of a hub repository was fetched before."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    name = repo_folder_name(repo_id=source, repo_type="model")
    return any(Path(constants.HF_HUB_CACHE, name, "snapshots").glob("*/*"))
