"""For ``small_trials.py``: a small MLP on the digits in a hand-written loop; one trial for each learning rate.

python benchmarks/peers/small_trials.py EPOCHS WIDTH BATCH_SIZE LR [LR ...]
"""

import gzip
import importlib.util
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

torch.set_num_threads(1)
epochs, width, batch_size = (int(text) for text in sys.argv[1:4])
path = Path(importlib.util.find_spec("sklearn").origin).parent / "datasets" / "data" / "digits.csv.gz"
with gzip.open(path, "rt") as file:  # importing scikit-learn would take a second more
    table = torch.from_numpy(np.array([line.split(",") for line in file.read().split()], dtype=np.float32))
x, y = (table[:, :-1] - 4.9) / 6.0, table[:, -1].long()
order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
train, val, test = order[:1293], order[1293:1437], order[1437:]

for lr in map(float, sys.argv[4:]):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    best = 0.0
    for _ in range(epochs):
        for batch in train[torch.randperm(len(train))].split(batch_size):
            if len(batch) < batch_size:
                continue
            loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            best = max(best, float((model(x[val]).argmax(1) == y[val]).float().mean()))
    with torch.no_grad():
        print(lr, best, float((model(x[test]).argmax(1) == y[test]).float().mean()))
