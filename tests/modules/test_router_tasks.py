import pytest

from fourfold.errors import InputError
from fourfold.modules._router_tasks import mapping_key, route_of, stated_tasks

ROUTES = ("query", "document", "image")
MAPPINGS = {("find", "text"): "query", ("find", None): "document", (None, ("image", "text")): "image"}


@pytest.mark.parametrize(
    ("task", "modality", "wanted"),
    [
        ("find", "text", "query"),
        ("find", "audio", "document"),
        ("find", None, "document"),
        (None, ("text", "image"), "image"),
        ("query", ("text", "image"), "image"),
        ("query", "image", "query"),
        (None, "image", "image"),
        (None, "text", "document"),
        (None, None, "document"),
    ],
)
def test_the_way_is_by_mapping_then_task_then_kind_then_default(task, modality, wanted):
    assert route_of(task, modality, routes=ROUTES, mappings=MAPPINGS, default="document") == wanted


def test_a_way_that_is_nowhere_is_told():
    with pytest.raises(InputError, match=r"no route for task 'qery'.*Did you mean 'query'"):
        route_of("qery", None, routes=ROUTES, mappings={}, default="document")
    with pytest.raises(InputError, match="a task is needed"):
        route_of(None, "text", routes=ROUTES, mappings={}, default=None)


@pytest.mark.parametrize("key", ["query", ("query",), ("query", None, None), None])
def test_keys_are_pairs(key):
    with pytest.raises(InputError, match="route_mappings"):
        mapping_key(key)


def test_which_inputs_state_tasks():
    assert stated_tasks([{"query": "a"}, {"document": "b"}]) == ["query", "document"]
    assert stated_tasks(["a", ("a", "b")]) is None
    assert stated_tasks([{"text": "a"}, {"image": "b"}]) is None
    assert stated_tasks([{"role": "user", "content": "a"}]) is None
    assert stated_tasks([]) is None


@pytest.mark.parametrize(
    "inputs", [[{"query": "a"}, "b"], [{"query": "a", "document": "b"}], [{3: "a"}], [{"query": "a"}, {"text": "b"}]]
)
def test_inputs_that_state_their_task_do_so_all(inputs):
    with pytest.raises(InputError, match="state their task"):
        stated_tasks(inputs)
