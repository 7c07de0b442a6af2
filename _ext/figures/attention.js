// Attention on plain arrays of arrays, for the figures: the package's functions once more, in the
// browser. The tests compare them with the package's.
(() => {
  const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);

  // (n_q, d), (n_k, d) -> (n_q, n_k), divided by the scale
  const scores = (query, key, scale = 1) => query.map((q) => key.map((k) => dot(q, k) / scale));

  // The softmax of one row. Where nothing may be attended to, all weights are zero.
  function softmaxRow(row, mask = row.map(() => true)) {
    const allowed = row.filter((_, j) => mask[j]);
    if (!allowed.length) return row.map(() => 0);
    const largest = Math.max(...allowed);
    const exponentials = row.map((x, j) => (mask[j] ? Math.exp(x - largest) : 0));
    const total = exponentials.reduce((sum, x) => sum + x, 0);
    return exponentials.map((x) => x / total);
  }

  const softmax = (rows, mask) => rows.map((row, i) => softmaxRow(row, mask && mask[i]));

  // (n_q, n_k), (n_k, d_v) -> (n_q, d_v)
  const weightedSum = (weights, value) =>
    weights.map((row) => value[0].map((_, c) => row.reduce((sum, w, j) => sum + w * value[j][c], 0)));

  // query (n_q, d_k), key (n_k, d_k), value (n_k, d_v); mask (n_q, n_k), true = may attend
  function attention(query, key, value, {mask, scale = Math.sqrt(key[0].length)} = {}) {
    const s = scores(query, key, scale);
    const weights = softmax(s, mask);
    return {scores: s, weights, output: weightedSum(weights, value)};
  }

  // Query i stands at position i + offset.
  const causalMask = (nQ, nK, offset = 0) =>
    Array.from({length: nQ}, (_, i) => Array.from({length: nK}, (_, j) => j <= i + offset));

  // From so many positions to the left up to so many to the right; null is no limit.
  const windowMask = (nQ, nK, left, right, offset = 0) =>
    Array.from({length: nQ}, (_, i) =>
      Array.from({length: nK}, (_, j) =>
        (left === null || j >= i + offset - left) && (right === null || j <= i + offset + right)));

  Object.assign(window.attentionFigures, {
    attention, causalMask, dot, scores, softmax, softmaxRow, weightedSum, windowMask,
  });
})();
