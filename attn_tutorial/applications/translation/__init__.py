"""English to Chinese by Bahdanau's model and a Transformer, against counting and one vector."""
