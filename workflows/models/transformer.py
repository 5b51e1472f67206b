"""A small transformer encoder, after Keras's example "Text classification with Transformer"
(https://keras.io/examples/nlp/text_classification_with_transformer), with a mask for padding.

The positions of words are learned, so the model reads exactly ``maxlen`` ids. The function compiles
its model, and so chooses the optimizer itself.
"""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable(package="transformer")
class TokenAndPosition(layers.Layer):
    """Sum of the vectors of a word and of its position; padding is masked."""

    def __init__(self, maxlen, vocabulary, width, **options):
        super().__init__(**options)
        self.maxlen, self.vocabulary, self.width = maxlen, vocabulary, width
        self.words = layers.Embedding(vocabulary, width, mask_zero=True, name="words")
        self.positions = layers.Embedding(maxlen, width, name="positions")

    def build(self, shape):
        self.words.build(shape)
        self.positions.build((self.maxlen,))

    def call(self, ids):
        return self.words(ids) + self.positions(ops.arange(self.maxlen))

    def compute_mask(self, ids, mask=None):
        return ops.not_equal(ids, 0)

    def get_config(self):
        own = {"maxlen": self.maxlen, "vocabulary": self.vocabulary, "width": self.width}
        return {**super().get_config(), **own}


def build(hp):
    ids = keras.Input((hp.get("maxlen"),), dtype="int32", name="ids")
    width = hp.Choice("width", [16, 32, 64])
    x = TokenAndPosition(hp.get("maxlen"), hp.get("vocabulary"), width)(ids)
    rate = hp.Float("dropout", 0.0, 0.3, step=0.1)
    for _ in range(hp.Int("blocks", 1, 2)):
        heads = hp.Choice("heads", [2, 4])
        attended = layers.MultiHeadAttention(heads, width // heads, dropout=rate)(x, x)
        x = layers.LayerNormalization(epsilon=1e-6)(x + attended)
        inner = layers.Dense(hp.Choice("inner", [32, 64]), activation="relu")(x)
        x = layers.LayerNormalization(epsilon=1e-6)(x + layers.Dense(width)(inner))
    x = layers.Dropout(rate)(layers.GlobalAveragePooling1D()(x))
    model = keras.Model(ids, layers.Dense(1, activation="sigmoid")(x))
    rate = hp.Float("adam_rate", 1e-4, 1e-2, sampling="log")
    model.compile(optimizer=keras.optimizers.Adam(rate), loss="binary_crossentropy")
    return model
