"""Tiny transformers checkpoints of the kinds that fourfold.testing does not make: with heads, templates, images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image

from fourfold.testing import ARCHITECTURES, WIDTH, checkpoint

# A marker for each role, the texts, a marker at each end: one template for each format of contents.
FLAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}[SEP]{% endfor %}"
    "{% if add_generation_prompt %}the a{% endif %}"
)
STRUCTURED = (
    "{% for m in messages %}<|{{ m.role }}|>{% for c in m.content %}{% if c.type == 'text' %}{{ c.text }}"
    "{% else %}[MASK]{% endif %}{% endfor %}[SEP]{% endfor %}{% if add_generation_prompt %}the a{% endif %}"
)
_SIZE = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
PROJECTED = 24


def with_template(folder: Path, template: str, architecture: str = "qwen3") -> str:
    """Write a checkpoint whose tokenizer has a chat template."""
    checkpoint(architecture, folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return str(folder)


def with_head(folder: Path, auto: str, architecture: str = "bert", **options: Any) -> str:
    """Write a checkpoint with a head, made by one of transformers' automatic classes."""
    checkpoint(architecture, folder)
    config = transformers.AutoConfig.from_pretrained(folder, **options)
    torch.manual_seed(1)
    model = getattr(transformers, auto).from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) / 4)
    model.save_pretrained(folder)
    return str(folder)


def clip(folder: Path) -> str:
    """Write a CLIP checkpoint: texts and images of 32 by 32 in one space."""
    checkpoint("bert", folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    text = {**_SIZE, "vocab_size": len(tokenizer), "max_position_embeddings": 128}
    text |= {f"{name}_token_id": getattr(tokenizer, f"{of}_token_id") for name, of in
             (("eos", "sep"), ("bos", "cls"), ("pad", "pad"))}  # fmt: skip
    vision = {**_SIZE, "image_size": 32, "patch_size": 8}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=PROJECTED)
    torch.manual_seed(0)
    transformers.CLIPModel(config).save_pretrained(folder)
    transformers.CLIPProcessor(_image_processor(), tokenizer).save_pretrained(folder)
    return str(folder)


def llava(folder: Path, kind: str = "LlavaModel") -> str:
    """Write a checkpoint of a model that reads chat messages with images among the texts, or one that answers them."""
    checkpoint("qwen3", folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    text = {**ARCHITECTURES["qwen3"].options, "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**_SIZE, image_size=32, patch_size=8),
        text_config=transformers.Qwen3Config(**text),
        image_token_index=tokenizer.mask_token_id,
    )
    torch.manual_seed(0)
    model = getattr(transformers, kind)(config)
    with torch.no_grad():
        for weight in model.parameters() if kind != "LlavaModel" else ():
            weight.copy_(weight + torch.randn_like(weight) / 4)  # answers that differ
    model.save_pretrained(folder)
    template = STRUCTURED.replace("{% else %}[MASK]", "{% else %}<image>").replace("<image>", "[MASK]")
    processor = transformers.LlavaProcessor(
        _image_processor(), tokenizer, patch_size=8, vision_feature_select_strategy="default", image_token="[MASK]",
        num_additional_image_tokens=1, chat_template=template,
    )  # fmt: skip
    processor.save_pretrained(folder)
    return str(folder)


def _image_processor() -> Any:
    cls = getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor
    return cls(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


def adapter(folder: Path, base: str) -> str:
    """Write a LoRA adapter to a checkpoint, far from doing nothing."""
    import peft

    torch.manual_seed(3)
    settings = peft.LoraConfig(r=4, target_modules=["query", "value"], init_lora_weights=False)
    peft.get_peft_model(transformers.AutoModel.from_pretrained(base), settings).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return str(folder)


def images(count: int = 3) -> list[Image.Image]:
    """Return images of noise."""
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)) for _ in range(count)]
