// The Transformer of attn_tutorial/models.py once more, in the browser: pre-norm, without dropout,
// with one vocabulary for source and target. It reads one sentence at a time, so that nothing is
// padded. A matrix is an array of rows; needs attention.js. The tests compare it with the package.
(() => {
  const {attention, causalMask, dot} = window.attentionFigures;

  const add = (a, b) => a.map((row, i) => row.map((x, c) => x + b[i][c]));
  const mean = (row) => row.reduce((sum, x) => sum + x, 0) / row.length;

  // float16, which older browsers cannot read: sign, 5 bits of exponent, 10 of fraction. Trained
  // weights hold no infinity and no NaN.
  function fromHalf(bits) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = (bits & 1023) / 1024;
    return sign * (exponent ? (1 + fraction) * 2 ** (exponent - 15) : fraction * 2 ** -14);
  }

  // Parameters by name, each a matrix (n_out, n_in) or a vector, from what an export has stored.
  function unpack(stored) {
    const bytes = Uint8Array.from(atob(stored.weights.join("")), (letter) => letter.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    let place = 0;
    const row = (n) => Array.from({length: n}, () => fromHalf(view.getUint16(2 * place++, true)));
    const parameters = {};
    for (const [name, shape] of Object.entries(stored.shapes)) {
      parameters[name] =
        shape.length === 1 ? row(shape[0]) : Array.from({length: shape[0]}, () => row(shape[1]));
    }
    return {parameters, settings: stored.settings};
  }

  // In what follows, a model is what unpack returned, and a name is that of the part in torch.

  function linear(model, name, rows) { // (n, n_in) -> (n, n_out)
    const weight = model.parameters[`${name}.weight`];
    const bias = model.parameters[`${name}.bias`];
    return rows.map((x) => weight.map((w, c) => dot(w, x) + bias[c]));
  }

  function layerNorm(model, name, rows) { // (n, d_model) -> (n, d_model)
    const weight = model.parameters[`${name}.weight`];
    const bias = model.parameters[`${name}.bias`];
    return rows.map((x) => {
      const center = mean(x);
      const variance = mean(x.map((entry) => (entry - center) ** 2));
      const deviation = Math.sqrt(variance + 1e-5);
      return x.map((entry, c) => ((entry - center) / deviation) * weight[c] + bias[c]);
    });
  }

  function feedForward(model, name, rows) { // (n, d_model) -> (n, d_model)
    const hidden = linear(model, `${name}.0`, rows).map((row) => row.map((x) => Math.max(x, 0)));
    return linear(model, `${name}.3`, hidden); // in torch, ReLU and dropout stand between
  }

  // Entry 2i is the sine, entry 2i + 1 the cosine, of the position times 10000^(-2i / d).
  function positionVector(position, d) {
    return Array.from({length: d}, (_, c) => {
      const angle = position * 10000 ** (-(c - (c % 2)) / d);
      return c % 2 ? Math.cos(angle) : Math.sin(angle);
    });
  }

  function embed(model, tokens, offset) { // (n,) -> (n, d_model)
    const table = model.parameters["source_embedding.tokens.weight"];
    const d = table[0].length;
    const scaled = tokens.map((token) => table[token].map((x) => x * Math.sqrt(d)));
    return add(scaled, tokens.map((_, i) => positionVector(offset + i, d)));
  }

  // (n, d_model) -> for each head (n, d_head)
  function split(rows, nHeads) {
    const d = rows[0].length / nHeads;
    return Array.from({length: nHeads}, (_, h) => rows.map((row) => row.slice(h * d, (h + 1) * d)));
  }

  // x (n_q, d_model) asks the keys and values in the cache: {key: [], value: []}, rows (d_model,).
  function multiHead(model, name, x, cache, mask) {
    const {n_heads: nHeads} = model.settings;
    const query = split(linear(model, `${name}.query`, x), nHeads); // heads of (n_q, d_head)
    const key = split(cache.key, nHeads); // heads of (n_k, d_head)
    const value = split(cache.value, nHeads);
    const heads = query.map((_, h) => attention(query[h], key[h], value[h], {mask}));
    const together = x.map((_, i) => heads.flatMap((head) => head.output[i])); // (n_q, d_model)
    return {
      output: linear(model, `${name}.out`, together), // (n_q, d_model)
      weights: heads.map((head) => head.weights), // (n_heads, n_q, n_k)
    };
  }

  function remember(model, name, rows, cache) {
    cache.key.push(...linear(model, `${name}.key`, rows));
    cache.value.push(...linear(model, `${name}.value`, rows));
  }

  const layers = (model) => Array.from({length: model.settings.n_layers}, (_, i) => i);

  // The source's tokens to {memory (n, d_model), weights of each layer (n_heads, n, n)}.
  function encode(model, source) {
    let x = embed(model, source, 0); // (n, d_model)
    const weights = layers(model).map((i) => {
      const layer = `encoder.${i}`;
      const seen = layerNorm(model, `${layer}.around_attention.norm`, x);
      const cache = {key: [], value: []};
      remember(model, `${layer}.attention`, seen, cache);
      const own = multiHead(model, `${layer}.attention`, seen, cache);
      x = add(x, own.output);
      const normalised = layerNorm(model, `${layer}.around_feed_forward.norm`, x);
      x = add(x, feedForward(model, `${layer}.feed_forward`, normalised));
      return own.weights;
    });
    return {memory: layerNorm(model, "encoder_norm", x), weights};
  }

  // What the decoder remembers: for each layer the keys and values of the tokens so far, and those
  // of the memory, which are computed once.
  const newCaches = (model, memory) => layers(model).map((i) => {
    const caches = {own: {key: [], value: []}, memory: {key: [], value: []}};
    remember(model, `decoder.${i}.cross_attention`, memory, caches.memory);
    return caches;
  });

  // New tokens (n,) to {logits (n, n_tokens), own and cross: weights of each layer}. The caches
  // grow. Of a single new token the causal mask hides nothing: what comes later is not there yet.
  function decode(model, tokens, caches) {
    const offset = caches[0].own.key.length;
    const mask = causalMask(tokens.length, offset + tokens.length, offset);
    let x = embed(model, tokens, offset); // (n, d_model)
    const weights = {own: [], cross: []};
    for (const i of layers(model)) {
      const layer = `decoder.${i}`;
      const seen = layerNorm(model, `${layer}.around_attention.norm`, x);
      remember(model, `${layer}.attention`, seen, caches[i].own);
      const own = multiHead(model, `${layer}.attention`, seen, caches[i].own, mask);
      x = add(x, own.output);
      const asking = layerNorm(model, `${layer}.around_cross_attention.norm`, x);
      const cross = multiHead(model, `${layer}.cross_attention`, asking, caches[i].memory);
      x = add(x, cross.output);
      const normalised = layerNorm(model, `${layer}.around_feed_forward.norm`, x);
      x = add(x, feedForward(model, `${layer}.feed_forward`, normalised));
      weights.own.push(own.weights);
      weights.cross.push(cross.weights);
    }
    const table = model.parameters["source_embedding.tokens.weight"]; // (n_tokens, d_model)
    const logits = layerNorm(model, "decoder_norm", x).map((row) => table.map((w) => dot(w, row)));
    return {logits, ...weights};
  }

  window.attentionFigures.transformer = {decode, encode, newCaches, unpack};
})();
