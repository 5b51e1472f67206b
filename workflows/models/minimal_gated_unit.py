"""The minimal gated unit of Zhou et al. 2016, "Minimal Gated Unit for Recurrent Neural Networks"
(https://arxiv.org/abs/1603.09420), as a custom cell for ``keras.layers.RNN``.

One gate f both forgets the state h and decides what of it the candidate sees, where a GRU has two:

    f = sigmoid(W_f x + U_f h + b_f)
    c = tanh(W_c x + U_c (f * h) + b_c)
    h = (1 - f) * h + f * c
"""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable(package="minimal_gated_unit")
class MinimalGatedUnit(layers.Layer):
    """A step: inputs (batch, features) and state (batch, units) to the next state."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = self.state_size = units

    def build(self, shape):
        def weight(name, rows, initializer):
            return self.add_weight(name=name, shape=(*rows, self.units), initializer=initializer)

        inputs, units = (shape[-1],), (self.units,)
        self.gate_kernel = weight("gate_kernel", inputs, "glorot_uniform")
        self.gate_recurrent = weight("gate_recurrent", units, "orthogonal")
        self.gate_bias = weight("gate_bias", (), "ones")
        self.kernel = weight("kernel", inputs, "glorot_uniform")
        self.recurrent = weight("recurrent", units, "orthogonal")
        self.bias = weight("bias", (), "zeros")

    def call(self, x, states, training=False):
        (h,) = states
        f = ops.sigmoid(x @ self.gate_kernel + h @ self.gate_recurrent + self.gate_bias)
        c = ops.tanh(x @ self.kernel + (f * h) @ self.recurrent + self.bias)
        h = (1 - f) * h + f * c
        return h, [h]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def build(hp):
    ids = keras.Input((None,), dtype="int32", name="ids")
    embedding = layers.Embedding(
        hp.get("vocabulary"), hp.Choice("embedding", [16, 32, 64]), mask_zero=True
    )
    x = embedding(ids)
    for layer in range(hp.Int("layers", 1, 2)):
        is_last = layer + 1 == hp.get("layers")
        unit = MinimalGatedUnit(hp.Int("units", 16, 64, step=16))
        x = layers.RNN(unit, return_sequences=not is_last)(x)
    return keras.Model(ids, layers.Dense(1, activation="sigmoid")(x))
