"""Give a model to others: its card, and pushing it to the hub."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from fourfold.errors import InputError
from fourfold.families._saving import Saving
from fourfold.families.model_card import BaseModelCardData, generate_model_card
from fourfold.notices import renamed_keywords
from fourfold.store import card
from fourfold.store.hub import Repository

if TYPE_CHECKING:
    from fourfold.families._model import BaseModel

logger = logging.getLogger(__name__)


class Sharing(Saving):
    """The part of a model that writes its card and pushes it to the hub."""

    model_card_data_class: ClassVar[type[BaseModelCardData]] = BaseModelCardData
    model_card_data: BaseModelCardData
    _model_card_text: str | None

    def _create_model_card(
        self, path: str, model_name: str | None = None, train_datasets: list[str] | None = None
    ) -> None:
        """Write ``README.md``: the one the model came with unless it was trained since, else a fresh one.

        A card that cannot be made is logged as an error and left out: it never stops a save.
        """
        data, model = self.model_card_data, cast("BaseModel", self)
        data.register_model(model)
        if model_name and data.model_id is None and not Path(model_name).exists():
            data.set_model_id(model_name)
        try:
            if self._model_card_text and "generated_from_trainer" not in data.tags:
                text = self._model_card_text
                if data.model_id:
                    text = card.with_model_id(text, type(self).__name__, data.placeholder, data.model_id)
            else:
                text = generate_model_card(model, train_datasets)
        except Exception:
            logger.exception("the model card could not be made; the model is saved without it")
            return
        Path(path, card.FILE).write_text(text, encoding="utf-8", newline="\n")

    def push_to_hub(
        self,
        repo_id: str,
        token: str | bool | None = None,
        private: bool | None = None,
        safe_serialization: bool = True,
        commit_message: str | None = None,
        local_model_path: str | os.PathLike[str] | None = None,
        exist_ok: bool = False,
        replace_model_card: bool = False,
        train_datasets: list[str] | None = None,
        revision: str | None = None,
        create_pr: bool = False,
    ) -> str:
        """Upload the model to the Hugging Face Hub, and return the address of the commit or of the pull request.

        Args:
            repo_id: ``owner/name``; without an owner, the token's.
            token: Hub token; None for the stored one.
            private: Whether a new repository is private; None leaves that to the owner's settings.
            safe_serialization: Whether weights are safetensors rather than pickles.
            commit_message: None says which class was added.
            local_model_path: Upload this folder as it is instead of saving the model.
            exist_ok: Whether the repository may exist already.
            replace_model_card: Whether to write a ``README.md`` where the repository has one.
            train_datasets: Names of data sets for the model card.
            revision: Branch to push to, created if it is missing.
            create_pr: Open a pull request instead of writing to the branch.

        Raises:
            InputError: If ``create_pr`` and ``revision`` are both given.
            huggingface_hub.errors.HfHubHTTPError: If the repository exists and ``exist_ok`` is False, or the token may
                not write to it.
        """
        target = Repository(repo_id, token, revision, create_pr).created(private=private, exist_ok=exist_ok)
        model = cast("BaseModel", self)
        model.model_card_data.set_model_id(target.name)
        backend = model.get_backend()
        suffix = "" if backend == "torch" else f" with an {backend} backend"
        message = commit_message or f"Add new {type(self).__name__} model{suffix}"
        description = self._pull_request_text(target.name) if create_pr else ""
        if local_model_path is not None:
            return target.upload(Path(local_model_path), message, description)
        with tempfile.TemporaryDirectory(prefix="fourfold-push-") as scratch:
            folder = Path(scratch, "model")
            self.save(
                str(folder),
                model_name=target.name,
                create_model_card=replace_model_card or target.lacks_card(),
                train_datasets=train_datasets,
                safe_serialization=safe_serialization,
            )
            return target.upload(folder, message, description)

    def _pull_request_text(self, repo_id: str) -> str:
        """Return what a reviewer needs: the modules, and how to try the pull request before it is merged."""
        return (
            f"This pull request adds the files of a {type(self).__name__}, written by `push_to_hub`.\n\n"
            f"## Full Model Architecture\n\n```\n{self!r}\n```\n\n{self._push_to_hub_usage_tip(repo_id)}"
        )

    def _push_to_hub_usage_tip(self, repo_id: str) -> str:
        """Return the part of a pull request's text that says how to try it; subclasses may say it otherwise."""
        cls, model = type(self).__name__, cast("BaseModel", self)
        model.model_card_data.register_model(model)
        load = f'from fourfold import {cls}\n\npull_request = 1  # its number\nmodel = {cls}(\n    "{repo_id}",\n'
        load += f'    revision=f"refs/pr/{{pull_request}}",\n    backend="{model.get_backend()}",\n)'
        usage = model.model_card_data.snippet(model, run=False).body
        return f"## Test this pull request\n\n```python\n{load}\n\n{usage}\n```\n"

    @renamed_keywords(repo_name="repo_id")
    def save_to_hub(self, *args: Any, **kwargs: Any) -> str:
        """Do what :meth:`push_to_hub` does, under its older name and with its older arguments.

        ``save_to_hub(repo_id, organization=None, token=None, private=None, safe_serialization=True,
        commit_message="Add new model.", local_model_path=None, exist_ok=False, replace_model_card=False,
        train_datasets=None)``. ``repo_name`` is the oldest name of ``repo_id``. Positional arguments are those of the
        time before ``token``: it is left out from two on.

        Raises:
            InputError: If ``organization`` is not the owner that ``repo_id`` names.
        """
        if len(args) >= 2:
            args = (*args[:2], kwargs.pop("token", None), *args[2:])
        return _save_to_hub(cast("BaseModel", self), *args, **kwargs)


def _save_to_hub(
    model: BaseModel,
    repo_id: str,
    organization: str | None = None,
    token: str | bool | None = None,
    private: bool | None = None,
    safe_serialization: bool = True,
    commit_message: str = "Add new model.",
    local_model_path: str | None = None,
    exist_ok: bool = False,
    replace_model_card: bool = False,
    train_datasets: list[str] | None = None,
) -> str:
    logger.warning("save_to_hub is deprecated; use push_to_hub")
    if organization:
        if "/" not in repo_id:
            repo_id = f"{organization}/{repo_id}"
            logger.warning('save_to_hub(organization=) is deprecated; use repo_id="%s"', repo_id)
        elif repo_id.split("/")[0] != organization:
            raise InputError(
                f"organization={organization!r} is not the owner of repo_id={repo_id!r}; leave organization out"
            )
        else:
            logger.warning("save_to_hub(organization=) is deprecated, and repo_id names the owner already")
    return model.push_to_hub(
        repo_id,
        token=token,
        private=private,
        safe_serialization=safe_serialization,
        commit_message=commit_message,
        local_model_path=local_model_path,
        exist_ok=exist_ok,
        replace_model_card=replace_model_card,
        train_datasets=train_datasets,
    )
