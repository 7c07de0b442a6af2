"""The decisive lines of document 001's program. Lines marked "as in the document" are quoted."""

CASES = {
    # The first line of the first function, on the program's own inputs.
    "matmul": """\
import tensorflow as tf

q = tf.random.uniform([1, 10], -1, 1)  # as in the document
k = tf.random.uniform([1, 7], -1, 1)  # as in the document
qk = tf.matmul(q, k, transpose_b=True)  # as in the document
""",
    "matmul_tf1": """\
import tensorflow.compat.v1 as tf

tf.disable_v2_behavior()
q = tf.random.uniform([1, 10], -1, 1)  # as in the document
k = tf.random.uniform([1, 7], -1, 1)  # as in the document
qk = tf.matmul(q, k, transpose_b=True)  # as in the document
""",
    # The text speaks of vectors; the program gives matrices of one row.
    "two_vectors": """\
import tensorflow as tf

q, k = tf.ones([10]), tf.ones([10])
qk = tf.matmul(q, k, transpose_b=True)  # as in the document
""",
    # A repair that runs and is wrong.
    "transposed_the_other_way": """\
import tensorflow as tf

q, k = tf.ones([1, 10]), tf.ones([1, 7])
qk = tf.matmul(q, k, transpose_a=True)
print(qk.shape)
""",
    # The second line, after the widths have been made equal.
    "root": """\
import tensorflow as tf

k = tf.ones([1, 10])
d_k = k.shape[1]  # as in the document
print(type(d_k).__name__, d_k)
dk = tf.sqrt(d_k)  # as in the document
""",
    "root_tf1": """\
import tensorflow.compat.v1 as tf

tf.disable_v2_behavior()
k = tf.ones([1, 10])
d_k = k.shape[1]  # as in the document
print(type(d_k).__name__, d_k)
dk = tf.sqrt(d_k)  # as in the document
""",
    # A repair that serves one dtype only, and one that serves both.
    "root_of_a_float": """\
import tensorflow as tf

for dtype in (tf.float32, tf.float64):
    qk = tf.constant([[3.0]], dtype)
    dk = tf.sqrt(float(9))
    print(dtype.name, qk / dk)
""",
    "root_by_python": """\
import math

import tensorflow as tf

for dtype in (tf.float32, tf.float64):
    qk = tf.constant([[3.0]], dtype)
    dk = math.sqrt(9)
    print(dtype.name, (qk / dk).numpy())
""",
    # Widths and root mended: the program runs.
    "one_key": """\
import math

import tensorflow as tf

def attention_score(q, k, d_k):
    qk = tf.matmul(q, k, transpose_b=True)  # as in the document
    return qk / math.sqrt(d_k)

def attention_weight(attention_score):
    return tf.nn.softmax(attention_score)  # as in the document

k = tf.ones([1, 4])
for q in ([[1.0, 2, 3, 4]], [[9.0, 9, 9, 9]], [[-5.0, 0, 0, 0]]):
    scores = attention_score(tf.constant(q), k, 4)
    print(scores.numpy(), attention_weight(scores).numpy())
""",
    "second_call": """\
import math

import tensorflow as tf

def attention_score(q, k, d_k):
    return tf.matmul(q, k, transpose_b=True) / math.sqrt(d_k)

q, k, d_k = tf.ones([1, 4]), tf.ones([1, 4]), 4
attention_score = attention_score(q, k, d_k)  # as in the document
print(attention_score.numpy())
attention_score = attention_score(q, k, d_k)  # as in the document
""",
    # Two queries and three keys: the softmax runs over the last axis.
    "several_keys": """\
import tensorflow as tf

attention_score = tf.constant([[0.0, 1, 2], [5, 5, 5]])  # (n_q, n_k)
weights = tf.nn.softmax(attention_score)  # as in the document
print(weights.numpy().sum(axis=1).round(4))
print(weights.numpy().sum(axis=0).round(2))
""",
    # A batch: axis 1 is not the width.
    "batch": """\
import tensorflow as tf

k = tf.ones([2, 3, 4])  # (batch, n_k, d_k)
d_k = k.shape[1]  # as in the document
print(d_k)
""",
    "repaired": """\
import math

import tensorflow as tf

def attention_score(query, key):
    d_k = key.shape[-1]
    return tf.matmul(query, key, transpose_b=True) / math.sqrt(d_k)

def attention_weight(scores):
    return tf.nn.softmax(scores)  # over the last axis, the keys

for dtype in (tf.float32, tf.float64):
    query = tf.constant([[2, 2, 0, 0]], dtype) * math.log(2)
    key = tf.constant([[1, 1, 0, 0], [1, 0, 0, 5], [0, 1, 2, 0]], dtype)
    value = tf.constant([[8, 0], [0, 4], [4, 4]], dtype)
    weights = attention_weight(attention_score(query, key))
    output = tf.matmul(weights, value)
    print(weights.numpy().round(4), output.numpy().round(4))
""",
}
