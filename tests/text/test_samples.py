import types

import numpy as np
import pytest
from PIL import Image

from fourfold.errors import InputError
from fourfold.text.samples import Pair, sort_samples

IMAGE = Image.new("RGB", (2, 2))
SOUND, CLIP = np.zeros(3), np.zeros((2, 3, 4, 4))
EVERYTHING = ["text", "image", "audio", "video", "message"]


def test_one_kind_stays_a_list():
    for batch in (["a", "b"], ["a", ("b", "c")], [["a", "b"]]):
        samples = sort_samples(batch, ["text"])
        assert (samples.modality, samples.values) == ("text", {"text": batch})


def test_one_key_counts_as_its_value():
    assert sort_samples([{"text": "a"}, "b"]).values == {"text": ["a", "b"]}
    assert sort_samples([{"image": IMAGE}, IMAGE]).values == {"image": [IMAGE, IMAGE]}


def test_several_keys_are_several_lists():
    samples = sort_samples([{"image": IMAGE, "text": "a"}, {"image": IMAGE, "text": "b"}])
    assert samples.modality == ("image", "text")
    assert samples.values == {"image": [IMAGE, IMAGE], "text": ["a", "b"]}


def test_the_order_of_keys_is_kept_where_messages_can_tell_it():
    batch = [{"image": IMAGE, "text": "a"}, {"text": "b", "image": IMAGE}]
    assert sort_samples(batch, EVERYTHING).modality == "message"
    assert sort_samples(batch, ["text", "image"]).values == {"image": [IMAGE, IMAGE], "text": ["a", "b"]}


def test_mixed_batches_and_pairs_become_messages():
    samples = sort_samples(["a", IMAGE, ("b", "c")])
    assert samples.modality == "message"
    assert samples.parts == [{"text": "a"}, {"image": IMAGE}, {"text": ("b", "c")}]
    samples = sort_samples([("a", IMAGE), ("b", "c"), "d"])
    assert samples.parts == [
        Pair({"text": "a"}, {"image": IMAGE}), Pair({"text": "b"}, {"text": "c"}), {"text": "d"}
    ]  # fmt: skip


def test_conversations_stay_as_they_are():
    message = {"role": "user", "content": "x"}
    samples = sort_samples([message, [message, message], "a"])
    assert samples.parts == [[message], [message, message], {"text": "a"}]


def test_the_sampling_rate_is_one_for_the_batch():
    samples = sort_samples([{"array": SOUND, "sampling_rate": 8000}, SOUND, {"audio": SOUND}])
    assert samples.values["audio"] == [SOUND, SOUND, SOUND]
    assert samples.options == {"audio": {"sampling_rate": 8000}}
    with pytest.raises(InputError, match="8000 and at 16000"):
        sort_samples([{"array": SOUND, "sampling_rate": rate} for rate in (8000, 16000)])


def test_a_decoder_is_heard_in_mono():
    def heard(self):
        import torch

        return types.SimpleNamespace(data=torch.tensor([[1.0, 2.0], [3.0, 4.0]]), sample_rate=16000)

    decoder = type("AudioDecoder", (), {"__module__": "torchcodec.decoders", "get_all_samples": heard})()
    samples = sort_samples([decoder])
    np.testing.assert_array_equal(samples.values["audio"][0], [2.0, 3.0])
    assert samples.options == {"audio": {"sampling_rate": 16000}}


def test_what_describes_videos():
    described = {"array": CLIP, "video_metadata": {"fps": 2}}
    assert sort_samples([{"array": CLIP, "video_metadata": None}]).options == {}
    assert sort_samples([described]).options == {"video": {"video_metadata": [{"fps": 2}]}}
    counted = {"total_num_frames": 2, "fps": None, "duration": None, "frames_indices": [0, 1]}
    assert sort_samples([described, CLIP]).options == {"video": {"video_metadata": [{"fps": 2}, counted]}}
    with pytest.raises(InputError, match="not in memory"):
        sort_samples([described, "http://x.org/a.mp4"])


def test_a_list_of_images_is_one_video():
    assert sort_samples([{"video": [IMAGE, IMAGE]}]).values == {"video": [[[IMAGE, IMAGE]]]}
    assert sort_samples([{"image": [IMAGE, IMAGE], "text": "a"}]).values["image"] == [[IMAGE, IMAGE]]
