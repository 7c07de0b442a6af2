"""A zoo of broken layers: each has one mistake that people make, and the checks catch all.

Each is the package's own layer or cache with one step changed.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from attn_tutorial import attention, dot_product, layers
from attn_tutorial.layers import KeyValueCache

BROKEN = {}


def broken(replaces: str):
    """Register a broken version of a public class; its docstring says what is wrong."""

    def register(changed):
        BROKEN[changed.__name__] = (replaces, changed)
        return changed

    return register


class Frame(layers.MultiHeadAttention):
    """The layer with a place before and after both engines; as it stands it is right."""

    def before(self, query, key, value, mask):
        return query, key, value, mask

    def after(self, heads, weights):
        return heads, weights

    def _attend(self, *arguments):
        return self.after(*super()._attend(*self.before(*arguments)))

    def _attend_and_show(self, *arguments):
        return self.after(*super()._attend_and_show(*self.before(*arguments)))


# --- heads -------------------------------------------------------------------------------------


@broken("MultiHeadAttention")
class HeadsWithoutTranspose(Frame):
    """view(batch, heads, n, d_head) where a transpose belongs: tokens and features mixed up."""

    def before(self, query, key, value, mask):
        def viewed(array):
            flat = rearrange(array, "batch heads n d_head -> batch n (heads d_head)")
            return flat.reshape(array.shape)

        return viewed(query), viewed(key), viewed(value), mask


@broken("MultiHeadAttention")
class HeadsJoinedWithoutTranspose(Frame):
    """The same on the way back: the heads of one token are scattered over several."""

    def after(self, heads, weights):
        batch, n_heads, n_q, d_head = heads.shape
        joined = heads.reshape(batch, n_q, n_heads, d_head)
        return joined.transpose(1, 2), weights


@broken("MultiHeadAttention")
class HeadsInnermost(Frame):
    """(d_head heads) in place of (heads d_head): loaded parameters go to the wrong heads."""

    def before(self, query, key, value, mask):
        def mixed(array):
            flat = rearrange(array, "batch heads n d_head -> batch n (heads d_head)")
            heads = array.shape[1]
            return rearrange(flat, "batch n (d_head heads) -> batch heads n d_head", heads=heads)

        return mixed(query), mixed(key), mixed(value), mask


@broken("MultiHeadAttention")
class GroupsInTurn(Frame):
    """Keys repeated 0 1 0 1 where 0 0 1 1 is meant: `repeat` for `repeat_interleave`."""

    def before(self, query, key, value, mask):
        group = self.n_heads // self.n_kv_heads
        order = torch.arange(self.n_heads).reshape(group, self.n_kv_heads).T.flatten()
        self.order = order.argsort()
        mask = mask if mask is None else mask.expand(-1, self.n_heads, -1, -1)[:, order]
        return query[:, order], key, value, mask

    def after(self, heads, weights):
        return heads[:, self.order], weights if weights is None else weights[:, self.order]


@broken("MultiHeadAttention")
class ScaledByTheModel(Frame):
    """The root of d_model where that of d_head belongs."""

    def before(self, query, key, value, mask):
        return query * (self.d_head / self.d_model) ** 0.5, key, value, mask


@broken("MultiHeadAttention")
class NotScaled(Frame):
    """The dot product as it is."""

    def before(self, query, key, value, mask):
        return query * self.d_head**0.5, key, value, mask


@broken("MultiHeadAttention")
class NoOutputProjection(layers.MultiHeadAttention):
    """The heads side by side, and nothing that lets them meet."""

    def forward(self, *arguments, **options):
        out, self.out = self.out, nn.Identity()
        try:
            return super().forward(*arguments, **options)
        finally:
            self.out = out


@broken("MultiHeadAttention")
class WeightsAveraged(Frame):
    """The mean over the heads, in the shape of all: torch's default, unasked."""

    def after(self, heads, weights):
        if weights is None:
            return heads, None
        return heads, weights.mean(1, keepdim=True).expand_as(weights)


@broken("MultiHeadAttention")
class WeightsAlways(layers.MultiHeadAttention):
    """The weights are kept though nobody needs them."""

    def _attend(self, *arguments):
        return self._attend_and_show(*arguments)


@broken("MultiHeadAttention")
class WeightsOfAnotherEngine(layers.MultiHeadAttention):
    """The engine that shows the weights forgot the scale."""

    def _attend_and_show(self, query, key, value, mask):
        return super()._attend_and_show(query * self.d_head**0.5, key, value, mask)


@broken("MultiHeadAttention")
class BatchSecond(layers.MultiHeadAttention):
    """Attends along the batch, as torch's layer does unless told."""

    def forward(self, x, context=None, **options):
        context = context if context is None else context.transpose(0, 1)
        output, weights = super().forward(x.transpose(0, 1), context, **options)
        return output.transpose(0, 1), weights


# --- cross-attention ---------------------------------------------------------------------------


@broken("MultiHeadAttention")
class ContextIgnored(layers.MultiHeadAttention):
    """Self-attention whatever is asked, where the widths allow it."""

    def _keys_and_values(self, x, context, cache):
        usable = context is not None and self.d_context == self.d_model
        same_length = usable and context.shape == x.shape
        return super()._keys_and_values(x, x if same_length else context, cache)


@broken("MultiHeadAttention")
class QueriesAttendToOneAnother(layers.MultiHeadAttention):
    """The keys of x behind those of the context, where no mask counts them."""

    def forward(self, x, context=None, *, mask=None, cache=None, **options):
        if context is not None and mask is None and cache is None and self.d_context == x.shape[-1]:
            context = torch.cat([context, x], dim=1)
        return super().forward(x, context, mask=mask, cache=cache, **options)


@broken("MultiHeadAttention")
class ValuesFromX(layers.MultiHeadAttention):
    """The context gives the keys, x the values, where the shapes allow it."""

    def _keys_and_values(self, x, context, cache):
        key, value = super()._keys_and_values(x, context, cache)
        if context is not None and cache is None and context.shape == x.shape:
            value = super()._keys_and_values(x, None, None)[1]
        return key, value


# --- masks -------------------------------------------------------------------------------------


@broken("MultiHeadAttention")
class MaskOfTheOtherConvention(Frame):
    """True hides, as in nn.MultiheadAttention."""

    def before(self, query, key, value, mask):
        boolean = mask is not None and mask.dtype == torch.bool
        return query, key, value, ~mask if boolean else mask


@broken("MultiHeadAttention")
class MaskForTrainingOnly(Frame):
    """Evaluation sees the future."""

    def before(self, query, key, value, mask):
        return query, key, value, mask if self.training else None


@broken("MultiHeadAttention")
class MaskForEvaluationOnly(Frame):
    """Training sees the future."""

    def before(self, query, key, value, mask):
        return query, key, value, None if self.training else mask


@broken("MultiHeadAttention")
class MaskOfTheFirstHead(Frame):
    """All heads under the mask of one."""

    def before(self, query, key, value, mask):
        return query, key, value, mask if mask is None else mask[:, :1]


@broken("MultiHeadAttention")
class FloatMaskForBoolean(Frame):
    """What is not zero may be seen."""

    def before(self, query, key, value, mask):
        return query, key, value, mask if mask is None else mask.bool()


@broken("MultiHeadAttention")
class FloatMaskWithoutGradient(Frame):
    """A learned bias that never learns."""

    def before(self, query, key, value, mask):
        return query, key, value, mask if mask is None else mask.detach()


@broken("MultiHeadAttention")
class FloatMaskInItsOwnPrecision(layers.MultiHeadAttention):
    """A mask of NumPy, in float64, over tensors in float32."""

    def _attend(self, query, key, value, mask):
        if mask is not None and mask.is_floating_point():
            mask = mask.double()
        return super()._attend(query, key, value, mask)


@broken("MultiHeadAttention")
class LargeNumberForMinusInfinity(Frame):
    """A row with nothing to attend to attends to all of it."""

    def before(self, query, key, value, mask):
        if mask is not None:
            added = (
                mask.to(query.dtype)
                if mask.is_floating_point()
                else torch.zeros_like(mask, dtype=query.dtype)
            )
            hidden = added == -torch.inf if mask.is_floating_point() else ~mask
            mask = added.masked_fill(hidden, -3e4)
        return query, key, value, mask


@broken("MultiHeadAttention")
class DeadRowsAreNaN(Frame):
    """0/0 where the mask leaves nothing."""

    def before(self, query, key, value, mask):
        self.dead = None
        if mask is not None:
            shown = mask if mask.dtype == torch.bool else mask > -torch.inf
            self.dead = ~shown.any(-1, keepdim=True)
        return query, key, value, mask

    def after(self, heads, weights):
        return heads if self.dead is None else heads.masked_fill(self.dead, torch.nan), weights


# --- the cache ---------------------------------------------------------------------------------


@broken("KeyValueCache")
class AlwaysAtPositionZero(KeyValueCache):
    """Each step believes that it is the first."""

    @property
    def offset(self):
        return 0


@broken("KeyValueCache")
class OneBehind(KeyValueCache):
    """The offset counts from one: a token does not see itself."""

    @property
    def offset(self):
        return max(self.length - 1, 0)


@broken("KeyValueCache")
class OneAhead(KeyValueCache):
    """The offset one too large: several tokens at a time see each the next."""

    @property
    def offset(self):
        return self.length + 1


@broken("MultiHeadAttention")
class NewestForgotten(layers.MultiHeadAttention):
    """Attends to what was stored before this step, and stores the new afterwards."""

    def _keys_and_values(self, x, context, cache):
        if context is not None or cache is None or not cache.length:
            return super()._keys_and_values(x, context, cache)
        earlier = cache.keys, cache.values
        super()._keys_and_values(x, context, cache)
        new = x.shape[1]
        # As many as the mask expects: the last stored stand for those that are missing.
        return tuple(torch.cat([part, part[..., -1:, :].expand(-1, -1, new, -1)], -2)
                     for part in earlier)  # fmt: skip


@broken("KeyValueCache")
class OldestForgotten(KeyValueCache):
    """Each step puts its keys in the place of those before."""

    def append(self, keys, values):
        stored = self.length
        super().append(keys, values)
        if stored:
            self.keys = torch.cat([keys[..., :1, :].expand(-1, -1, stored, -1), keys], dim=-2)


@broken("KeyValueCache")
class KeysAndValuesSwapped(KeyValueCache):
    """Stored under the other's name."""

    def append(self, keys, values):
        super().append(values, keys)


@broken("KeyValueCache")
class CutFromTheGraph(KeyValueCache):
    """No gradient reaches what was stored."""

    def append(self, keys, values):
        super().append(keys, values)
        self.keys, self.values = self.keys.detach(), self.values.detach()


@broken("KeyValueCache")
class OnlyKeysReordered(KeyValueCache):
    """Each beam with the values of another."""

    def reorder(self, indices):
        values = self.values
        super().reorder(indices)
        self.values = values[torch.arange(len(indices)) % len(values)]


@broken("KeyValueCache")
class ReorderedTheOtherWay(KeyValueCache):
    """Entry i goes to place indices[i], where it should come from there."""

    def reorder(self, indices):
        indices = torch.as_tensor(indices)
        super().reorder(indices.argsort() % self.keys.shape[0])


@broken("MultiHeadAttention")
class ContextProjectedAgain(layers.MultiHeadAttention):
    """Right, and at each step the whole work of the first."""

    def _keys_and_values(self, x, context, cache):
        if context is not None and cache is not None and cache.length:
            return super()._keys_and_values(x, context, None)
        return super()._keys_and_values(x, context, cache)


@broken("MultiHeadAttention")
class ContextAppendedAgain(layers.MultiHeadAttention):
    """The cache of cross-attention grows by the context at each step."""

    def _keys_and_values(self, x, context, cache):
        if context is not None and cache is not None and cache.length:
            cache.append(cache.keys, cache.values)
        return super()._keys_and_values(x, context, cache)


# --- dropout -----------------------------------------------------------------------------------


class Dropping(layers.MultiHeadAttention):
    """Both engines in four lines, with a place for dropout before and after normalising."""

    def on_scores(self, scores):
        return scores

    def on_weights(self, weights):
        return F.dropout(weights, self.dropout, self.training)

    def shown(self, weights, dropped):
        return weights

    def _attend_and_show(self, query, key, value, mask):
        group = self.n_heads // self.n_kv_heads
        key, value = (part.repeat_interleave(group, dim=1) for part in (key, value))

        def score(query, key):
            return self.on_scores(dot_product(query, key) / self.d_head**0.5)

        _, weights = attention(query, key, value, score=score, mask=mask)
        dropped = self.on_weights(weights)
        return dropped @ value, self.shown(weights, dropped)

    def _attend(self, *arguments):
        return self._attend_and_show(*arguments)[0], None


@broken("MultiHeadAttention")
class WeightsAfterDropout(Dropping):
    """The rows that come back do not sum to one."""

    def shown(self, weights, dropped):
        return dropped


@broken("MultiHeadAttention")
class DropoutBeforeNormalising(Dropping):
    """Scores are set to minus infinity, and the rest sums to one again."""

    def on_scores(self, scores):
        if not self.training:
            return scores
        return scores.masked_fill(torch.rand_like(scores) < self.dropout, -torch.inf)

    def on_weights(self, weights):
        return weights


@broken("MultiHeadAttention")
class DropoutInEvaluation(Dropping):
    """Never switched off."""

    def on_weights(self, weights):
        return F.dropout(weights, self.dropout)


@broken("MultiHeadAttention")
class DropoutInEvaluationByTheEngine(layers.MultiHeadAttention):
    """dropout_p given to torch's function, which knows nothing of modes."""

    def _attend(self, query, key, value, mask):
        group = self.n_heads // self.n_kv_heads
        key, value = (part.repeat_interleave(group, dim=1) for part in (key, value))
        heads = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=self.dropout
        )
        return heads, None


@broken("MultiHeadAttention")
class DropoutNotRescaled(Dropping):
    """What is left is not divided by 1 - p."""

    def on_weights(self, weights):
        if not self.training:
            return weights
        return weights * (torch.rand_like(weights) >= self.dropout)


@broken("MultiHeadAttention")
class DropoutOfWholeHeads(Dropping):
    """One draw for all keys of a query."""

    def on_weights(self, weights):
        if not self.training or not self.dropout:
            return weights
        kept = torch.rand_like(weights[..., :1]) >= self.dropout
        return weights * kept / (1 - self.dropout)


@broken("MultiHeadAttention")
class DropoutForgotten(Dropping):
    """Accepted, and not used."""

    def on_weights(self, weights):
        return weights


# --- numbers and parameters --------------------------------------------------------------------


@broken("MultiHeadAttention")
class ScoresInSixteenBits(layers.MultiHeadAttention):
    """Products beyond 65504 become infinite."""

    def _attend_and_show(self, query, key, value, mask):
        if query.dtype == torch.float16:
            scores = query @ key.transpose(-1, -2) / self.d_head**0.5
            if mask is not None:
                scores = scores.masked_fill(~mask, -torch.inf)
            weights = scores.softmax(-1)
            return weights @ value, weights
        return super()._attend_and_show(query, key, value, mask)


@broken("MultiHeadAttention")
class AlwaysSinglePrecision(layers.MultiHeadAttention):
    """The result has lost the dtype of what went in."""

    def forward(self, *arguments, **options):
        output, weights = super().forward(*arguments, **options)
        return output.float() if output.dtype == torch.float16 else output, weights


@broken("MultiHeadAttention")
class KeysWithoutGradient(Frame):
    """The keys never learn."""

    def before(self, query, key, value, mask):
        return query, key.detach(), value, mask


@broken("MultiHeadAttention")
class UnsavedParameters(layers.MultiHeadAttention):
    """One projection is not in the state, so that a loaded layer is another."""

    def state_dict(self, *arguments, **options):
        state = super().state_dict(*arguments, **options)
        state.pop("value.weight", None)
        return state


@broken("MultiHeadAttention")
class TorchsOwnBeginning(layers.MultiHeadAttention):
    """nn.Linear's default: smaller matrices, and biases that are not zero."""

    def reset_parameters(self):
        for linear in (self.query, self.key, self.value, self.out):
            linear.reset_parameters()


@broken("MultiHeadAttention")
class LoadedInTheWrongOrder(layers.MultiHeadAttention):
    """Queries and keys exchanged on the way from torch."""

    def load_from_torch(self, module):
        super().load_from_torch(module)
        if self.d_context == self.d_model:
            self.query, self.key = self.key, self.query
        return self


@broken("MultiHeadAttention")
class GivenWithoutBias(layers.MultiHeadAttention):
    """The biases stay behind on the way to torch."""

    def to_torch(self):
        module = super().to_torch()
        if module.in_proj_bias is not None:
            nn.init.zeros_(module.in_proj_bias)
        return module


@broken("MultiHeadAttention")
class GivenInTrainingMode(layers.MultiHeadAttention):
    """A layer in evaluation mode goes to torch with its dropout on."""

    def to_torch(self):
        return super().to_torch().train()
