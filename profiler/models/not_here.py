"""What to do where weights or configs cannot be read: a repository of the hub that gives nothing, a single file."""

import logging
from collections.abc import Callable
from pathlib import Path

from profiler.errors import UserError, first_line

SINGLE_FILES = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf")


def check_no_single_file(name: str) -> None:
    """Raise UserError, saying what to do, for a checkpoint of one file."""
    if name.lower().endswith(SINGLE_FILES):
        raise UserError(
            f"{name}: a single file holds weights, not what they are the weights of. In Python, "
            'diffusers.StableDiffusionXLPipeline.from_single_file("...").save_pretrained("my-folder"), with the class that '
            "it was made for, writes a folder; give that, or an id of the catalog"
        )


def fetched(name: str, known: list[str], fetch: Callable[[], str]) -> Path:
    """What `fetch` brings of repository `name`. Raises UserError, saying what to do, where the hub gives nothing.

    `known` are the ids of the catalog: what is described there needs no hub.
    """
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    own = name.rpartition("/")[2].lower()
    same = f"the catalog's {own}, which needs no hub" if own in known else "an id of the catalog"
    instead = f"or give {same}, or a folder that `hf download {name}` wrote elsewhere"
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)  # each of its tries would be told
    try:
        return Path(fetch())
    except GatedRepoError as error:
        raise UserError(
            f"{name}: gated: accept its terms at its page and log in with `hf auth login`, {instead}"
        ) from error
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        why = first_line(error)
        raise UserError(
            f"{name}: the hub cannot be reached or has no such repository ({why}): check both, {instead}"
        ) from error
    finally:
        logger.setLevel(level)
