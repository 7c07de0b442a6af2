"""What document 004's log would have to come from. Lines marked "as in the document" are quoted."""

CASES = {
    "first-call": """\
import numpy as np
import tensorflow as tf

inputs = np.random.default_rng(0).random((100, 10))
attention_weights = tf.nn.softmax(inputs)  # as in the document
# as in the document
attention_output = tf.reduce_sum(attention_weights * inputs, axis=1)
print(attention_output.shape)
dense = tf.keras.layers.Dense(units=1)
output = dense(attention_output)
""",
    "never-updated": """\
import tensorflow as tf

train_loss = tf.keras.metrics.Mean()  # as in the document
for epoch in range(3):
    print(f"Loss: {train_loss.result()}")
    train_loss.reset_state()
""",
    "reset": """\
import tensorflow as tf

train_loss = tf.keras.metrics.Mean()  # as in the document
train_loss.reset_states()  # as in the document
""",
    "digits": """\
import tensorflow as tf

test_loss = tf.keras.metrics.Mean()  # as in the document
for value in (0.672649, 0.0144528, 0.5, 0.46875):
    test_loss.reset_state()
    test_loss.update_state(value)
    print(f"Test Loss: {test_loss.result()}")
""",
    "metric": """\
import numpy as np
import tensorflow as tf

test_data = np.random.default_rng(1).random((20, 1, 10))
weights = np.exp(test_data)
weights /= weights.sum(axis=-1, keepdims=True)
outputs = (weights * test_data).sum(axis=-1)  # (20, 1)
test_loss = tf.keras.metrics.Mean()  # as in the document
for w, b in ((1.0, 0.0), (0.9, -0.2), (-0.3, 0.9), (-0.17, 0.0), (0.0, 0.5)):
    test_loss.reset_state()
    for test_sample, output in zip(test_data, outputs):
        predictions = (w * output + b)[None]  # (1, 1)
        test_loss.update_state(test_sample, predictions)  # as in the document
    print(f"{w:.2f} {b:.2f} {test_loss.result():.4f}")
""",
    "start": """\
import tensorflow as tf

dense = tf.keras.layers.Dense(units=1)
dense.build((None, 1))
kernel, bias = dense.get_weights()
print(type(dense.kernel_initializer).__name__, kernel.shape, bias)
""",
    "first-step": """\
import tensorflow as tf

for gradient in (1000.0, 1.0, -0.001):
    # as in the document
    optimizer = tf.keras.optimizers.Adam(learning_rate=0.001)
    parameter = tf.Variable(0.0)
    optimizer.apply_gradients([(tf.constant(gradient), parameter)])
    print(f"{parameter.numpy():.5f}")
""",
}
