import numpy as np
import pytest
import torch

from fourfold.errors import InputError
from fourfold.search import communities
from fourfold.search.communities import community_detection


@pytest.fixture(scope="module")
def vectors():
    generator = torch.Generator().manual_seed(3)
    centres = torch.randn(9, 12, generator=generator)
    return centres[torch.randint(9, (150,), generator=generator)] + 0.3 * torch.randn(150, 12, generator=generator)


def plain(vectors, threshold, smallest):
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    scores = (unit @ unit.T).numpy()
    groups = [[int(j) for j in np.argsort(-row, kind="stable") if row[j] >= threshold] for row in scores]
    taken, found = set(), []
    for centre, group in sorted(enumerate(groups), key=lambda pair: -len(pair[1])):
        left = [j for j in group if j not in taken]
        if len(group) >= smallest and centre not in taken and len(left) >= smallest:
            found.append(left)
            taken.update(left)
    return sorted(found, key=len, reverse=True)


@pytest.mark.parametrize("most_kept", [2**25, 300, 0])
@pytest.mark.parametrize("batch_size", [1024, 17, 1])
@pytest.mark.parametrize(("threshold", "smallest"), [(0.75, 10), (0.5, 2), (0.9, 2), (-1.0, 1)])
def test_groups_are_those_of_the_plain_search(vectors, threshold, smallest, batch_size, most_kept, monkeypatch):
    monkeypatch.setattr(communities, "_MOST_KEPT", most_kept)
    found = community_detection(vectors, threshold, smallest, batch_size)
    assert found == plain(vectors, threshold, smallest)


def test_the_centre_comes_first_among_its_copies():
    vectors = torch.nn.functional.normalize(torch.randn(1, 33, generator=torch.Generator().manual_seed(0))).repeat(6, 1)
    assert community_detection(vectors, threshold=0.9, min_community_size=2)[0][0] == 0


def test_too_few_rows_make_no_group(vectors):
    assert community_detection(vectors[:9]) == []
    assert community_detection(vectors[:0], min_community_size=0) == []
    assert community_detection(vectors[0], min_community_size=1) == [[0]]
    assert community_detection(vectors[:2].numpy(), threshold=-1, min_community_size=2) == [[0, 1]]


def test_a_bar_is_shown_on_request(vectors, capsys):
    community_detection(vectors, show_progress_bar=True)
    assert "Comparing" in capsys.readouterr().err


def test_the_batch_must_hold_something(vectors):
    with pytest.raises(InputError, match="batch_size must be at least 1"):
        community_detection(vectors, batch_size=0)
