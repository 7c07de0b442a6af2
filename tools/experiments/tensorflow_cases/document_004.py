"""The decisive lines of document 004's program. Lines marked "as in the document" are quoted."""

MODEL = """\
import numpy as np
import tensorflow as tf

tf.keras.config.disable_traceback_filtering()


class AttentionModel(tf.keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = tf.keras.layers.Dense(units=1)  # as in the document

    def call(self, inputs):
        attention_weights = tf.nn.softmax(inputs)  # as in the document
        weighted = attention_weights * inputs
        return self.dense(tf.reduce_sum(weighted, axis=1{keepdims}))


"""

AS_WRITTEN = MODEL.format(keepdims="")
AXIS_KEPT = MODEL.format(keepdims=", keepdims=True")

DATA = """\
rng = np.random.default_rng(0)
train_data, test_data = rng.random((100, 10)), rng.random((20, 10))
"""

CASES = {
    # The first step of the first round.
    "first_call": AS_WRITTEN
    + DATA
    + """\
model = AttentionModel()  # as in the document
predictions = model(train_data)  # as in the document
""",
    # A repair that only moves the crash: the other axis.
    "other_axis": """\
import tensorflow as tf

pooled = tf.reduce_sum(tf.ones([100, 10]), axis=0)
print(pooled.shape)
tf.keras.layers.Dense(units=1)(pooled)
""",
    # The axis is kept; the training step runs.
    "eval": AXIS_KEPT
    + DATA
    + """\
model = AttentionModel()  # as in the document
predictions = model(train_data)  # as in the document
print(predictions.shape, [w.shape for w in model.trainable_variables])
model.eval()  # as in the document
""",
    # Without model.eval().
    "test_sample": AXIS_KEPT
    + DATA
    + """\
model = AttentionModel()  # as in the document
predictions = model(train_data)  # as in the document
for test_sample in test_data:  # as in the document
    predictions = model(test_sample)  # as in the document
""",
    # With a batch of one row.
    "train": AXIS_KEPT
    + DATA
    + """\
model = AttentionModel()  # as in the document
for test_sample in test_data[:, None]:
    predictions = model(test_sample)  # as in the document
print(test_sample.shape, predictions.shape)
model.train()  # as in the document
""",
    # Without model.train().
    "reset_states": """\
import tensorflow as tf

train_loss = tf.keras.metrics.Mean()  # as in the document
print(f"Loss: {train_loss.result()}")
train_loss.reset_states()  # as in the document
""",
    # Every crash mended: what the program prints, and the loss that it does not print.
    "runs": AXIS_KEPT
    + DATA
    + """\
model = AttentionModel()
model(train_data)
model.dense.set_weights([np.array([[0.5]]), np.array([0.0])])
optimizer = tf.keras.optimizers.Adam(learning_rate=0.001)
loss_fn = tf.keras.losses.MeanSquaredError()
train_loss, test_loss = tf.keras.metrics.Mean(), tf.keras.metrics.Mean()
variables = model.trainable_variables
for epoch in range(100):
    with tf.GradientTape() as tape:
        predictions = model(train_data)  # as in the document
        loss = loss_fn(train_data, predictions)  # as in the document
    grads = tape.gradient(loss, variables)
    optimizer.apply_gradients(zip(grads, variables))
    for test_sample in test_data[:, None]:
        predictions = model(test_sample)  # as in the document
        # as in the document
        test_loss.update_state(test_sample, predictions)
    if epoch in (0, 1, 99):
        error = loss_fn(test_data, model(test_data))
        print(f"Epoch {epoch + 1}, Loss: {train_loss.result()}, ", end="")
        print(f"Test Loss: {test_loss.result():.4f}, ", end="")
        print(f"not printed: {loss:.4f}, {error:.4f}")
    train_loss.reset_state()
    test_loss.reset_state()
weight, bias = model.dense.get_weights()
print(f"weight {weight[0, 0]:.3f}, bias {bias[0]:.3f}")
""",
    # The test metric, for five models that are told what to predict.
    "test_metric": """\
import numpy as np
import tensorflow as tf

data = np.random.default_rng(0).random((20, 10))
means = data.mean(axis=1, keepdims=True)  # (20, 1), the best prediction
always = np.ones_like(means)
for name, predictions in {
    "the best": means,
    "always 0.5": 0.5 * always,
    "always 7": 7 * always,
    "ten times the best, and negative": -10 * means,
    "always 0": 0 * always,
}.items():
    metric = tf.keras.metrics.Mean()
    for test_sample, p in zip(data[:, None], predictions[:, None]):
        metric.update_state(test_sample, p)
    error = tf.keras.metrics.MeanSquaredError()
    error.update_state(data, predictions)
    print(f"{name}: {metric.result():.4f}, error {error.result():.4f}")
""",
    # The step that mends the loss and the metric.
    "metrics_mended": """\
import tensorflow as tf

train_loss = tf.keras.metrics.Mean()  # as in the document
test_loss = tf.keras.metrics.MeanSquaredError()
for loss in (0.4, 0.2):
    train_loss.update_state(loss)
test_loss.update_state([[1.0], [2.0]], [[1.0], [2.5]])
print(f"{train_loss.result():.4f}, {test_loss.result():.4f}")
""",
    # The mode of a Keras model is an argument; the default is evaluation.
    "mode": """\
import tensorflow as tf

dropout, inputs = tf.keras.layers.Dropout(0.5), tf.ones([1000])
kept = dropout(inputs) == inputs
print("no argument:", bool(tf.reduce_all(kept)))
for training in (False, True):
    kept = dropout(inputs, training=training) == inputs
    print(f"training={training}:", bool(tf.reduce_all(kept)))
""",
    # data_loader.py
    "pad_sequence": """\
import tensorflow as tf

data = [[0.1, 0.9], [0.5]]
tf.keras.preprocessing.sequence.pad_sequence(  # as in the document
    data, padding="post"
)
""",
    "pad_sequences": """\
import numpy as np
import tensorflow as tf

print(
    tf.keras.preprocessing.sequence.pad_sequences
    is tf.keras.utils.pad_sequences
)
data = [[0.1, 0.9], [0.5]]
padded = tf.keras.utils.pad_sequences(data, padding="post")
print(padded.dtype, padded.tolist())
floats = tf.keras.utils.pad_sequences(
    data, padding="post", dtype="float32"
)
print(floats.dtype, floats.tolist())
rows = np.random.default_rng(0).random((100, 10))
print(np.abs(tf.keras.utils.pad_sequences(rows, padding="post")).sum())
""",
    "softmax_of_integers": """\
import tensorflow as tf

data = [[0.1, 0.9], [0.5]]
inputs = tf.keras.utils.pad_sequences(data, padding="post")
attention_weights = tf.nn.softmax(inputs)  # as in the document
""",
    # The smallest correct version, in the document's library.
    "repaired": """\
import numpy as np
import tensorflow as tf


class AttentionModel(tf.keras.Model):
    def __init__(self, d_token):
        super().__init__()
        shape = (1, d_token)
        self.query = self.add_weight(shape=shape, initializer="zeros")
        self.dense = tf.keras.layers.Dense(units=1)

    def call(self, tokens):  # (batch, n, d_token)
        scores = tf.matmul(self.query, tokens, transpose_b=True)
        scores = scores / tokens.shape[-1] ** 0.5  # (batch, 1, n)
        weights = tf.nn.softmax(scores, axis=-1)  # over the tokens
        value = tokens[..., :1]  # (batch, n, 1)
        attended = tf.matmul(weights, value)[:, 0]  # (batch, 1)
        return self.dense(attended), weights  # (batch, 1), (batch, 1, n)


def sequences(rng, n_rows, n=10):
    tokens = np.zeros((n_rows, n, 2), dtype="float32")
    tokens[..., 0] = rng.random((n_rows, n))  # a value
    marked = rng.integers(n, size=n_rows)
    tokens[np.arange(n_rows), marked, 1] = 1  # and a mark on one token
    return tokens, tokens[np.arange(n_rows), marked, :1]  # (n_rows, 1)


rng = np.random.default_rng(0)
train, test = sequences(rng, 1000), sequences(rng, 1000)
tf.keras.utils.set_random_seed(0)
model = AttentionModel(d_token=2)
optimizer = tf.keras.optimizers.Adam(learning_rate=0.1)
loss_fn = tf.keras.losses.MeanSquaredError()
for epoch in range(20):
    order = rng.permutation(1000)
    for part in order.reshape(20, 50):
        with tf.GradientTape() as tape:
            predictions, _ = model(train[0][part], training=True)
            loss = loss_fn(train[1][part], predictions)
        grads = tape.gradient(loss, model.trainable_variables)
        pairs = zip(grads, model.trainable_variables)
        optimizer.apply_gradients(pairs)

predictions, weights = model(test[0], training=False)
error = loss_fn(test[1], predictions)
constant = np.mean((test[1] - train[1].mean()) ** 2)
on_mark = np.sum(weights[:, 0] * test[0][..., 1], axis=-1)
print(model.count_params(), "parameters")
print("held-out error below 0.001:", bool(error < 0.001))
print(f"held-out error of the constant: {constant:.2f}")
print("weight on the mark at least 0.8:", bool(on_mark.min() > 0.8))
""",
}
