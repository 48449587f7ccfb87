"""Push a model folder to the hub."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fourfold.errors import InputError
from fourfold.store._download import LIBRARY
from fourfold.store.card import FILE

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Repository:
    """A repository of the hub that one may write to.

    Attributes:
        name: ``owner/name``; without an owner, the token's.
        token: Hub token; None for the stored one.
        revision: Branch to write to; None is the default branch.
        create_pr: Whether to open a pull request instead of writing to the branch.
    """

    name: str
    token: str | bool | None = None
    revision: str | None = None
    create_pr: bool = False

    def __post_init__(self) -> None:
        if self.create_pr and self.revision not in (None, "main"):
            raise InputError(
                f"create_pr=True and revision={self.revision!r} are both given; a pull request is always opened "
                "against the default branch, so leave revision out"
            )

    def created(self, *, private: bool | None, exist_ok: bool) -> Repository:
        """Create the repository and the branch where they are missing; return it with its full name.

        Args:
            private: Whether a new repository is private; None leaves that to the owner's settings.
            exist_ok: Whether it may exist. A pull request needs it to exist, so then it always may.

        Raises:
            huggingface_hub.errors.HfHubHTTPError: If it exists and must not, or the token may not write.
        """
        api = self._api()
        made = api.create_repo(self.name, private=private, exist_ok=exist_ok or self.create_pr)
        found = replace(self, name=made.repo_id)
        if self.revision is not None:
            api.create_branch(found.name, branch=self.revision, exist_ok=True)
        return found

    def lacks_card(self) -> bool:
        """Whether the branch is known to have no ``README.md``; a failed look-up is logged and counts as no."""
        try:
            return not self._api().file_exists(self.name, FILE, revision=self.revision)
        except Exception as error:
            logger.warning("whether %s has a %s could not be found out (%s); none is written", self.name, FILE, error)
            return False

    def upload(self, folder: Path, message: str, description: str = "") -> str:
        """Upload a folder as one commit, or as a pull request, and return its address."""
        info = self._api().upload_folder(
            repo_id=self.name,
            folder_path=folder,
            commit_message=message,
            commit_description=description,
            revision=self.revision,
            create_pr=self.create_pr,
        )
        # Without a change there is no pull request; the commit that already holds everything is the answer then.
        return str(info.pr_url or info.commit_url)

    def _api(self) -> Any:
        from huggingface_hub import HfApi

        return HfApi(token=self.token, library_name=LIBRARY)
