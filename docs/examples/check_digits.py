import torch, unvanish
from sklearn.datasets import load_digits
from torch import nn

digits = load_digits()
x, y = torch.tensor(digits.data / 16).float(), torch.tensor(digits.target)
torch.manual_seed(0)
layers = [nn.Sequential(nn.Linear(64, 64), nn.Sigmoid()) for _ in range(20)]
model = nn.Sequential(*layers, nn.Linear(64, 10))
print(unvanish.check(model, x, lambda model, x: nn.functional.cross_entropy(model(x), y)))
