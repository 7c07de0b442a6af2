"""Simple ways to choose a sentence, and how a summary is measured."""

from __future__ import annotations

import collections
import math
import statistics
from collections.abc import Sequence

import networkx as nx
import numpy as np
from jaxtyping import Float
from rouge_score.rouge_scorer import RougeScorer
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from attn_tutorial.applications.summarization.data import LONGEST_TEXT, Document, Words, words_of

METRICS = ("ROUGE-1", "ROUGE-2", "ROUGE-L", "content words")
SCORER, COUNTER = RougeScorer(["rouge1", "rouge2", "rougeL"]), RougeScorer(["rouge1"])
SHORTEST_CONTENT = 4  # letters: "the", "of" and "for" say nothing
N_TOPICS = 64


class Tfidf:
    """Sentences as vectors: tf-idf, and what is left of it in few dimensions.

    Both are fitted to sentences of the training's libraries, texts only.
    """

    def __init__(self, documents: Sequence[Document]) -> None:
        sentences = [sentence for document in documents for sentence in document.sentences]
        self.words = TfidfVectorizer(
            tokenizer=words_of, token_pattern=None, lowercase=False, sublinear_tf=True, min_df=2
        ).fit(sentences)
        self.topics = TruncatedSVD(N_TOPICS, random_state=0).fit(self.words.transform(sentences))

    def features(self, sentences: Sequence[str]) -> Float[np.ndarray, "n n_features"]:
        """A direction in the space of topics, and the logarithm of the length."""
        vectors = self.topics.transform(self.words.transform(sentences))  # (n, N_TOPICS)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = vectors / np.maximum(norms, 1e-9) * math.sqrt(N_TOPICS)
        lengths = np.log([[len(words_of(sentence))] for sentence in sentences])
        return np.concatenate([vectors, lengths - 2.7], axis=1)  # 2.7: about 15 words


def rouge(summary: str, guess: str) -> list[float]:
    """F1 from 0 to 100, by the names of `METRICS`.

    The last one is ROUGE-1 of the words of four letters or more alone.

    References
    ----------
    Lin (2004), "ROUGE: A Package for Automatic Evaluation of Summaries".
    """
    scores = [100 * score.fmeasure for score in SCORER.score(summary, guess).values()]
    content = COUNTER.score(*(" ".join(content_words(text)) for text in (summary, guess)))
    return [*scores, 100 * content["rouge1"].fmeasure]


def content_words(text: str) -> list[str]:
    """The words of four letters or more."""
    return [word for word in words_of(text) if len(word) >= SHORTEST_CONTENT]


def text_scores(documents: Sequence[Document], texts: Sequence[str]) -> dict[str, float]:
    """Mean ROUGE of one text for each document."""
    rows = [rouge(d.summary, text) for d, text in zip(documents, texts, strict=True)]
    return dict(zip(METRICS, np.mean(rows, axis=0).tolist(), strict=True))


def longest(sentences: Sequence[str], tfidf: Tfidf) -> int:
    """The sentence with the most words."""
    return int(np.argmax([len(words_of(sentence)) for sentence in sentences]))


def centroid(sentences: Sequence[str], tfidf: Tfidf) -> int:
    """The sentence whose tf-idf vector has the largest product with the mean of all."""
    vectors = tfidf.words.transform(sentences).toarray()  # (n, n_words)
    return int((vectors @ vectors.mean(axis=0)).argmax())


def text_rank(sentences: Sequence[str], tfidf: Tfidf) -> int:
    """The first sentence by PageRank in the graph of common words.

    References
    ----------
    Mihalcea and Tarau (2004), "TextRank: Bringing Order into Text", EMNLP, section 4.
    """
    graph = nx.Graph()
    graph.add_nodes_from(range(len(sentences)))
    bags = [set(words_of(sentence)) for sentence in sentences]
    logs = [math.log(len(words_of(sentence))) for sentence in sentences]
    for i, bag in enumerate(bags):
        for j in range(i):
            graph.add_edge(i, j, weight=len(bag & bags[j]) / (logs[i] + logs[j]))
    ranks = nx.pagerank(graph)
    return max(ranks, key=lambda i: (round(ranks[i], 9), -i))


def manners(documents: Sequence[Document], texts: Sequence[str], words: Words) -> dict[str, float]:
    """How summaries of the texts were written, in shares from 0 to 1.

    Returns
    -------
    dict of float
        "in the text": words that the read part of the text holds. "in neither": words of four
        letters or more that neither it holds nor the author's summary. "repeated": summaries in
        which such a word stands twice. "unknown found": of the words of the authors' summaries that
        the model does not know and the read part holds, those that it wrote.
    """
    counts: dict[str, list[bool]] = collections.defaultdict(list)
    for document, text in zip(documents, texts, strict=True):
        read = set(words_of(document.text)[:LONGEST_TEXT])
        wanted = set(words_of(document.summary))
        written = words_of(text)
        counts["in the text"] += [word in read for word in written]
        long = content_words(text)
        counts["in neither"] += [word not in read | wanted for word in long]
        counts["repeated"].append(len(set(long)) < len(long))
        unknown = {word for word in wanted & read if words.number[word] >= words.n_known}
        counts["unknown found"] += [word in written for word in unknown]
    return {name: statistics.fmean(there) for name, there in counts.items()}
