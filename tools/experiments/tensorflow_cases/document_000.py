"""The decisive lines of document 000's program. Lines marked "as in the document" are quoted."""

# The interface of the document's decade, as TensorFlow 2 still keeps it.
HEAD = """\
import tensorflow.compat.v1 as tf

tf.disable_v2_behavior()
"""

INPUTS = """\
Q = tf.placeholder(tf.float32, shape=[None, d_k])  # as in the document
K = tf.placeholder(tf.float32, shape=[None, d_k])  # as in the document
"""

VALUES = """\
V = tf.placeholder(tf.float32, shape=[None, d_k])  # as in the document
"""

VALUES_MENDED = """\
V = tf.placeholder(tf.float32, shape=[None, d_v])
"""

WEIGHTS_MENDED = """\
scores = tf.matmul(Q, K, transpose_b=True) / math.sqrt(d_k)
attention_weights = tf.nn.softmax(scores)
"""

CONTEXT = """\
# as in the document
context_vector = tf.reduce_sum(attention_weights * V, axis=1)
"""

CONTEXT_MENDED = """\
context_vector = tf.matmul(attention_weights, V)
"""

SESSION = """\
sess = tf.Session()  # as in the document
sess.run(tf.global_variables_initializer())  # as in the document
"""

# Defined widths and a root that takes an integer: the first two repairs.
GRAPH = "import math\n\n" + HEAD + "\nd_k = 7\n" + INPUTS + VALUES + WEIGHTS_MENDED + CONTEXT

# Values with a width of their own: the third repair.
WIDER_GRAPH = (
    "import math\n\nimport numpy as np\n"
    + HEAD
    + "\nd_k, d_v = 7, 3\n"
    + INPUTS
    + VALUES_MENDED
    + WEIGHTS_MENDED
)

SENTENCE = """\
try:
    sess.run(context_vector{feed})
except tf.errors.InvalidArgumentError as error:
    (line,) = [
        line for line in error.message.splitlines() if "{sentence}" in line
    ]
    print({shown})
"""

FEED = """\
rng = np.random.default_rng(0)
feed = {
    Q: rng.normal(size=(4, d_k)),
    K: rng.normal(size=(5, d_k)),
    V: rng.normal(size=(5, 3)),
}
"""

CASES = {
    "placeholder": """\
import tensorflow as tf

Q = tf.placeholder(tf.float32, shape=[None, d_k])  # as in the document
""",
    "width": HEAD + "\n" + INPUTS,
    "root": HEAD
    + "\nd_k = 7\n"
    + INPUTS
    + """\
# as in the document
attention_weights = tf.nn.softmax(
    tf.matmul(Q, K, transpose_b=True) / tf.sqrt(d_k)
)
""",
    "root-in-tensorflow-2": """\
import tensorflow as tf

d_k = 7
tf.sqrt(d_k)  # as in the document
""",
    "program-to-its-end": GRAPH + SESSION,
    "what-the-program-ran": GRAPH
    + SESSION
    + """\
initializer = tf.global_variables_initializer()
print("it runs:", initializer.type, initializer.control_inputs)
print("variables:", tf.global_variables())
print("context_vector:", context_vector.shape)
""",
    "without-data": GRAPH
    + SESSION
    + SENTENCE.format(feed="", sentence="You must feed", shown='line.split(" \'")[0]'),
    "values-of-another-width": GRAPH.replace(
        "import math\n\n", "import math\n\nimport numpy as np\n"
    )
    + SESSION
    + FEED
    + "sess.run(context_vector, feed)\n",
    "product": WIDER_GRAPH
    + CONTEXT
    + SESSION
    + FEED
    + SENTENCE.format(feed=", feed", sentence="Incompatible", shown="line"),
    "product-of-squares": "import math\n\nimport numpy as np\n"
    + HEAD
    + "\nd_k = 4\n"
    + INPUTS
    + VALUES
    + WEIGHTS_MENDED
    + CONTEXT
    + SESSION
    + """\
rng = np.random.default_rng(0)
feed = {name: rng.normal(size=(4, d_k)) for name in (Q, K, V)}
print(sess.run(context_vector, feed).round(4))
""",
    "matrix-product": WIDER_GRAPH
    + CONTEXT_MENDED
    + SESSION
    + FEED
    + """\
output = sess.run(context_vector, feed)
print(output.round(4))
""",
    "nothing-to-train": WIDER_GRAPH
    + CONTEXT_MENDED
    + """\
loss = tf.reduce_sum(context_vector)
tf.train.GradientDescentOptimizer(0.1).minimize(loss)
""",
    "tensorflow-2": """\
import math

import numpy as np
import tensorflow as tf


def attention(query, key, value):
    scores = tf.matmul(query, key, transpose_b=True)
    scores /= math.sqrt(key.shape[-1])  # (n_q, n_k)
    return tf.matmul(tf.nn.softmax(scores), value)  # (n_q, d_v)


rng = np.random.default_rng(0)
query, key = rng.normal(size=(4, 7)), rng.normal(size=(5, 7))
value = rng.normal(size=(5, 3))
print(attention(query, key, value).numpy().round(4))
""",
    "training-in-tensorflow-2": """\
import math

import numpy as np
import tensorflow as tf

rng = np.random.default_rng(0)
x, target = rng.normal(size=(5, 6)), rng.normal(size=(5, 3))
W_Q, W_K, W_V = (
    tf.Variable(rng.normal(size=(6, width))) for width in (7, 7, 3)
)
for step in range(4):
    with tf.GradientTape() as tape:
        scores = tf.matmul(x @ W_Q, x @ W_K, transpose_b=True)
        weights = tf.nn.softmax(scores / math.sqrt(7))
        loss = tf.reduce_mean((weights @ (x @ W_V) - target) ** 2)
    parameters = [W_Q, W_K, W_V]
    for parameter, slope in zip(parameters, tape.gradient(loss, parameters)):
        parameter.assign_sub(0.1 * slope)
    print(f"{loss.numpy():.4f}")
""",
}
