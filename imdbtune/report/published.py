"""Published accuracies on the IMDB reviews, for comparison."""

from __future__ import annotations

from dataclasses import dataclass

TEST = "25,000 test reviews"
VALIDATION = "5,000 validation reviews"


@dataclass(frozen=True)
class Published:
    """One published accuracy, in percent.

    Args:
        other_data: what it was trained on besides the 25,000 labelled reviews; empty: nothing.
        models: how many are combined.
    """

    model: str
    accuracy: float
    measured_on: str
    source: str
    address: str = ""
    other_data: str = ""
    models: int = 1


UNLABELLED = "50,000 unlabelled reviews"


PUBLISHED = (
    Published(
        "LSTM with virtual adversarial training, pretrained as a language model",
        94.09,
        TEST,
        "Miyato, Dai & Goodfellow 2017, Adversarial Training Methods",
        "https://arxiv.org/abs/1605.07725",
        UNLABELLED,
    ),
    Published(
        "LSTM pretrained as an autoencoder (SA-LSTM)",
        92.76,
        TEST,
        "Dai & Le 2015, Semi-supervised Sequence Learning",
        "https://arxiv.org/abs/1511.01432",
        UNLABELLED,
    ),
    Published(
        "Convolution over words, with bag of n-grams (seq2-bown-CNN)",
        92.33,
        TEST,
        "Johnson & Zhang 2015, Effective Use of Word Order",
        "https://arxiv.org/abs/1412.1058",
    ),
    Published(
        "Two LSTMs on one-hot words, forward and backward (oh-2LSTMp)",
        91.9,
        TEST,
        "Johnson & Zhang 2016, LSTM for Region Embeddings",
        "https://arxiv.org/abs/1602.02373",
    ),
    Published(
        "Naive Bayes SVM on words and pairs of words, linear",
        91.22,
        TEST,
        "Wang & Manning 2012, Baselines and Bigrams",
        "https://aclanthology.org/P12-2018/",
    ),
    Published(
        "Word vectors with sentiment, and bag of words",
        88.89,
        TEST,
        "Maas et al. 2011, Learning Word Vectors for Sentiment Analysis",
        "https://aclanthology.org/P11-1015/",
        UNLABELLED,
    ),
    Published(
        "Two bidirectional LSTM-64",
        87.8,
        TEST,
        "Keras, Bidirectional LSTM on IMDB",
        "https://keras.io/examples/nlp/bidirectional_lstm_imdb/",
    ),
    Published(
        "LSTM, tuned, from random weights",
        86.50,
        TEST,
        "Dai & Le 2015, Semi-supervised Sequence Learning",
        "https://arxiv.org/abs/1511.01432",
    ),
    Published(
        "LSTM-32, best epoch",
        88.36,
        VALIDATION,
        "Chollet, Deep Learning with Python, Listing 6.27",
    ),
    Published(
        "SimpleRNN-32, best epoch",
        85.84,
        VALIDATION,
        "Chollet, Deep Learning with Python, Listing 6.23",
    ),
)
