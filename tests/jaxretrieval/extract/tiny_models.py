"""Random models of a few kilobytes, saved in the format of the hub."""

import os
import pathlib

# Read once, when the package of the hub is imported.
os.environ['HF_HUB_OFFLINE'] = '1'


def save_resnet(folder: pathlib.Path, seed: int = 0) -> pathlib.Path:
  """A ResNet of 64 features with its image processor."""
  import torch  # pyright: ignore[reportMissingImports]
  import transformers  # pyright: ignore[reportMissingImports]

  torch.set_num_threads(1)  # on a busy machine threads wait for each other
  torch.manual_seed(seed)
  config = transformers.ResNetConfig(
    embedding_size=16,
    hidden_sizes=[16, 32, 48, 64],
    depths=[1, 1, 1, 1],
    layer_type='basic',
  )
  transformers.ResNetModel(config).eval().save_pretrained(folder)
  (folder / 'preprocessor_config.json').write_text(
    '{"image_processor_type": "ConvNextImageProcessor", "do_resize": true, '
    '"size": {"shortest_edge": 64}, "crop_pct": 0.875, "resample": 3, '
    '"do_normalize": true, "image_mean": [0.485, 0.456, 0.406], '
    '"image_std": [0.229, 0.224, 0.225]}'
  )
  return folder


def save_vit(folder: pathlib.Path, *, pooler: bool = True) -> pathlib.Path:
  """A vision transformer of 32 features."""
  import torch  # pyright: ignore[reportMissingImports]
  import transformers  # pyright: ignore[reportMissingImports]

  torch.set_num_threads(1)  # on a busy machine threads wait for each other
  torch.manual_seed(0)
  config = transformers.ViTConfig(
    hidden_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=32,
    image_size=32,
    patch_size=16,
  )
  model = transformers.ViTModel(config, add_pooling_layer=pooler)
  model.save_pretrained(folder)
  (folder / 'preprocessor_config.json').write_text(
    '{"image_processor_type": "ViTImageProcessor", '
    '"size": {"height": 32, "width": 32}}'
  )
  return folder


def save_xlm_roberta(
  folder: pathlib.Path, *, pooler: bool = True
) -> pathlib.Path:
  """An XLM-R of 32 features and a tokenizer that knows a few words."""
  import tokenizers  # pyright: ignore[reportMissingImports]
  import torch  # pyright: ignore[reportMissingImports]
  import transformers  # pyright: ignore[reportMissingImports]
  from tokenizers import models, pre_tokenizers, processors, trainers  # pyright: ignore[reportMissingImports]

  special = ['<s>', '<pad>', '</s>', '<unk>']
  tokenizer = tokenizers.Tokenizer(models.Unigram())
  tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
  tokenizer.train_from_iterator(
    ['ein Hund am Strand', 'a dog at the beach', 'un chien sur la plage'] * 3,
    trainers.UnigramTrainer(
      vocab_size=80, special_tokens=special, unk_token='<unk>'
    ),
  )
  tokenizer.post_processor = processors.TemplateProcessing(
    single='<s> $A </s>', special_tokens=[('<s>', 0), ('</s>', 2)]
  )
  transformers.PreTrainedTokenizerFast(
    tokenizer_object=tokenizer,
    bos_token='<s>',
    eos_token='</s>',
    unk_token='<unk>',
    pad_token='<pad>',
    model_max_length=62,
  ).save_pretrained(folder)
  torch.set_num_threads(1)  # on a busy machine threads wait for each other
  torch.manual_seed(0)
  config = transformers.XLMRobertaConfig(
    vocab_size=tokenizer.get_vocab_size(),
    hidden_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=64,
  )
  model = transformers.XLMRobertaModel(config, add_pooling_layer=pooler)
  model.save_pretrained(folder)
  return folder


def save_clip(folder: pathlib.Path):
  """A CLIP of 32 features, beside a tokenizer; returns the model."""
  import torch  # pyright: ignore[reportMissingImports]
  import transformers  # pyright: ignore[reportMissingImports]

  torch.manual_seed(0)
  tower = {
    'hidden_size': 32,
    'num_hidden_layers': 1,
    'num_attention_heads': 2,
    'intermediate_size': 32,
  }
  config = transformers.CLIPConfig(
    text_config=tower
    | {'vocab_size': 80, 'bos_token_id': 0, 'eos_token_id': 2},
    vision_config=tower | {'image_size': 32, 'patch_size': 16},
    projection_dim=16,
  )
  model = transformers.CLIPModel(config).eval()
  model.save_pretrained(folder)
  (folder / 'preprocessor_config.json').write_text(
    '{"image_processor_type": "CLIPImageProcessor", '
    '"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}'
  )
  return model
