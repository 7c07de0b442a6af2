"""The decisive lines of document 002's program. Lines marked "as in the document" are quoted."""

CASES = {
    # The first operation, in TensorFlow 2.
    "placeholder": """\
import tensorflow as tf

inputs = tf.placeholder(tf.float32, [None, None, 128])  # as in the document
""",
    # The next name that is gone, once the inputs are there.
    "get_variable": """\
import tensorflow as tf

inputs = tf.ones([2, 5, 128])  # (batch, n, d)
W = tf.get_variable("W", [128, 128])  # as in the document
""",
    # The old name alone does not help: TensorFlow 2 computes at once.
    "placeholder_kept": """\
import tensorflow.compat.v1 as tf

inputs = tf.placeholder(tf.float32, [None, None, 128])  # as in the document
""",
    # The decisive lines under TensorFlow 1's interface, to the end of the program.
    "graph": """\
import tensorflow.compat.v1 as tf

tf.disable_v2_behavior()
inputs = tf.placeholder(tf.float32, [None, None, 128])  # as in the document
outputs = tf.placeholder(tf.float32, [None, None, 128])
W = tf.get_variable("W", [128, 128])  # as in the document
b = tf.get_variable("b", [128])
v = tf.matmul(inputs, W) + b  # as in the document
alpha = tf.nn.softmax(v)  # as in the document
context = tf.reduce_sum(alpha * outputs, axis=1)
print(alpha.shape, context.shape)
print(type(context.op.graph).__name__, hasattr(context, "numpy"))
""",
    # What would have to be added before a number comes out: first a session …
    "session": """\
import tensorflow.compat.v1 as tf

tf.disable_v2_behavior()
inputs = tf.placeholder(tf.float32, [None, None, 128])  # as in the document
try:
    with tf.Session() as session:
        session.run(2 * inputs)
except tf.errors.InvalidArgumentError as error:
    print(error.message.splitlines()[-2])
""",
    # … then data, then values for the parameters …
    "uninitialised": """\
import numpy as np
import tensorflow.compat.v1 as tf

tf.disable_v2_behavior()
inputs = tf.placeholder(tf.float32, [None, None, 128])  # as in the document
W = tf.get_variable("W", [128, 128])  # as in the document
try:
    with tf.Session() as session:
        session.run(tf.matmul(inputs, W), {inputs: np.ones((1, 5, 128))})
except tf.errors.FailedPreconditionError as error:
    print(type(error).__name__)
""",
    # … which are drawn anew by each run.
    "two_runs": """\
import numpy as np
import tensorflow.compat.v1 as tf

tf.disable_v2_behavior()
W = tf.get_variable("W", [128, 128])  # as in the document
drawn = []
for _ in range(2):
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        drawn.append(session.run(W))
print(np.array_equal(*drawn))
print(np.abs(drawn).max() < (6 / (128 + 128)) ** 0.5 < 0.154)
""",
    # The program executed, with parameters that anybody can draw again.
    "executed": """\
import numpy as np
import tensorflow.compat.v1 as tf

tf.disable_v2_behavior()
inputs = tf.placeholder(tf.float32, [None, None, 128])  # as in the document
outputs = tf.placeholder(tf.float32, [None, None, 128])
rng = np.random.default_rng(0)
W = tf.constant(rng.normal(size=(128, 128)) / 128**0.5, tf.float32)
b = tf.constant(rng.normal(size=128), tf.float32)
v = tf.matmul(inputs, W) + b  # as in the document
alpha = tf.nn.softmax(v)  # as in the document
context = tf.reduce_sum(alpha * outputs, axis=1)
words, others = rng.normal(size=(2, 2, 5, 128))
with tf.Session() as session:
    feed = {inputs: words, outputs: others}
    alpha, context = session.run([alpha, context], feed)
print(alpha.shape, context.shape)
print(alpha.sum(axis=2).round(3).min(), alpha.sum(axis=1).round(2).max())
print(context[:, :4].round(4))
""",
    # The same without graph and session: only the interface is mended.
    "interface_mended": """\
import numpy as np
import tensorflow as tf

rng = np.random.default_rng(0)
W = tf.Variable(rng.normal(size=(128, 128)) / 128**0.5, dtype=tf.float32)
b = tf.Variable(rng.normal(size=128), dtype=tf.float32)
words, others = rng.normal(size=(2, 2, 5, 128))
inputs = tf.constant(words, tf.float32)
outputs = tf.constant(others, tf.float32)
v = tf.matmul(inputs, W) + b  # as in the document
alpha = tf.nn.softmax(v)  # as in the document
context = alpha * outputs  # as in the document
context = tf.reduce_sum(context, axis=1)  # as in the document
print(context[:, :4].numpy().round(4))
""",
    # Two lengths: declared as independent, multiplied entry by entry.
    "two_lengths": """\
import numpy as np
import tensorflow.compat.v1 as tf

tf.disable_v2_behavior()
inputs = tf.placeholder(tf.float32, [None, None, 128])  # as in the document
outputs = tf.placeholder(tf.float32, [None, None, 128])
alpha = tf.nn.softmax(inputs)
context = alpha * outputs  # as in the document
print("built", context.shape)
with tf.Session() as session:
    for length in (5, 1, 7):
        feed = {inputs: np.ones((2, 5, 128))}
        feed[outputs] = np.ones((2, length, 128))
        try:
            print(length, session.run(context, feed).shape)
        except tf.errors.InvalidArgumentError as error:
            print(length, error.message.splitlines()[-2].split(":")[0])
""",
    # Scores of pairs, and the document's product left as it is.
    "scores_of_pairs": """\
import tensorflow as tf

inputs, outputs = tf.ones([2, 5, 128]), tf.ones([2, 5, 128])
W, b = tf.zeros([128, 128]), tf.zeros([128])
v = tf.matmul(inputs, W) + b  # as in the document
v = tf.matmul(v, inputs, transpose_b=True)
alpha = tf.nn.softmax(v)  # as in the document
print(alpha.shape)
try:
    context = alpha * outputs  # as in the document
except tf.errors.InvalidArgumentError as error:
    print("Incompatible shapes: [2,5,5] vs. [2,5,128]" in error.message)
""",
    "repaired": """\
import math

import tensorflow as tf

inputs = tf.constant([[[1.0, 0], [0, 1], [1, 1]]])  # (batch, n, d)
outputs = tf.constant([[[5.0, 0, 5], [0, 5, 5], [5, 5, 5]]])
W = tf.constant([[0.0, 1], [1, 0]]) * math.log(2)
b = tf.zeros([2])
v = tf.matmul(inputs, W) + b  # as in the document
v = tf.matmul(v, inputs, transpose_b=True)  # (batch, n, n)
alpha = tf.nn.softmax(v)  # as in the document
context = tf.matmul(alpha, outputs)  # (batch, n, d_v)
print(alpha.numpy().round(4)[0], context.numpy().round(4)[0])
""",
}
