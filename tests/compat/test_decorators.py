from fourfold.compat.decorators import save_to_hub_args_decorator


@save_to_hub_args_decorator
def save_to_hub(self, repo_id=None, organization=None, token=None, private=None):
    return repo_id, organization, token, private


def test_older_callers_are_understood(caplog):
    assert save_to_hub(None, "name") == ("name", None, None, None)
    assert save_to_hub(None, "name", "org", True) == ("name", "org", None, True)
    assert save_to_hub(None, repo_name="name") == ("name", None, None, None)
    assert save_to_hub(None, repo_name="old", repo_id="new") == ("new", None, None, None)
    assert caplog.text.count("repo_name=") == 1
