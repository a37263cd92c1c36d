"""Twenty sigmoid layers on digits, as many a course begins: it does not learn. Why?"""

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.data / 16.0, dtype=torch.float32)
labels = torch.tensor(digits.target)

layers: list[nn.Module] = []
width = images.shape[1]
for _ in range(20):
    layers += [nn.Linear(width, 100), nn.Sigmoid()]
    width = 100
model = nn.Sequential(*layers, nn.Linear(width, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

for _step in range(300):
    batch = torch.randint(0, len(images), (64,))
    loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

accuracy = (model(images).argmax(1) == labels).float().mean()
print(f"loss {loss:.3f}, accuracy {accuracy:.1%}")
