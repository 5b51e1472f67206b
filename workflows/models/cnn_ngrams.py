"""Convolutions over n-grams, as in Kim 2014, "Convolutional Neural Networks for Sentence
Classification" (https://aclanthology.org/D14-1181).

Filters of several widths look for n-grams anywhere in a review; of each filter the largest
response counts. The function compiles no model, so imdbtune chooses the optimizer.
"""

import keras
from keras import layers

WIDTHS = {"3": (3,), "2-3-4": (2, 3, 4), "3-4-5": (3, 4, 5)}


def build(hp):
    ids = keras.Input((hp.get("maxlen"),), dtype="int32", name="ids")
    vectors = layers.Embedding(hp.get("vocabulary"), hp.Choice("embedding", [32, 64, 128]))(ids)
    vectors = layers.SpatialDropout1D(hp.Float("word_vector_dropout", 0.0, 0.5, step=0.25))(vectors)
    filters = hp.Int("filters", 32, 128, step=32)
    pooled = [
        layers.GlobalMaxPooling1D()(layers.Conv1D(filters, width, activation="relu")(vectors))
        for width in WIDTHS[hp.Choice("widths", list(WIDTHS))]
    ]
    features = layers.Concatenate()(pooled) if len(pooled) > 1 else pooled[0]
    features = layers.Dropout(hp.Float("dropout", 0.0, 0.5, step=0.25))(features)
    return keras.Model(ids, layers.Dense(1, activation="sigmoid")(features))
