"""A long short-term memory: recurrent layers over tokens, or over the rows of an image.

Source: Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997, in the form of ``torch.nn.LSTM``; images row by row
as in Le, Jaitly, Hinton, "A Simple Way to Initialize Recurrent Networks of Rectified Linear Units", 2015,
arXiv:1504.00941, who take single pixels.
"""

from __future__ import annotations

from torch import Tensor, nn

from mltricks.config.values import Count, Decay, check_value


class Lstm(nn.Module):
    """Tokens get a prediction at every position, an image gets one after its last row.

    Shapes: tokens (B, L) -> (B, L, num_outputs); images (B, C, H, W) -> (B, num_outputs).

    Args:
        in_shape: (L,) or (C, H, W).
        num_outputs: width of the output, and size of the vocabulary of tokens.
        width: units of every recurrent layer, and of the embedding of tokens, >= 1.
        depth: number of recurrent layers, >= 1.
        dropout: probability of zeroing an input of the head, in [0, 1).

    Raises:
        ValueError: the input is neither tokens nor images, or a setting is out of range.
    """

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int, width: int, depth: int, dropout: float):
        super().__init__()
        for name, value, hint in (("width", width, Count), ("depth", depth, Count), ("dropout", dropout, Decay)):
            check_value(f"model.{name}", value, hint)
        if not isinstance(in_shape, tuple | list) or len(in_shape) not in (1, 3):
            raise ValueError(f"model=lstm takes tokens or images, and the data have shape {in_shape}. Type model=mlp.")
        self.tokens = len(in_shape) == 1
        self.embedding = nn.Embedding(num_outputs, width) if self.tokens else nn.Identity()
        features = width if self.tokens else in_shape[0] * in_shape[2]
        self.recurrent = nn.LSTM(features, width, depth, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        if self.tokens and x.is_floating_point():
            raise ValueError("model=lstm takes tokens or images, and the data are vectors. Type model=mlp.")
        rows = self.embedding(x) if self.tokens else x.transpose(1, 2).flatten(2)
        hidden = self.recurrent(rows)[0]
        return self.head(self.dropout(hidden if self.tokens else hidden[:, -1]))
