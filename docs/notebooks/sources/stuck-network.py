# %% [markdown] en
# # A stuck network, found and cured
#
# A network of ten layers does not learn. Is it the data, the learning rate, the loss? This notebook
# finds the cause, proves a cure by training, and puts it to use. The data are real, and nothing is
# changed in the training that is watched.
#
# To run it yourself: `pip install "unvanish[notebook,demo]"`. It takes about a minute.
# %% [markdown] zh
# # 卡住的网络：找到病因并治好
#
# 一个十层的网络学不动。是数据、学习率还是损失函数的问题？本笔记本找出病因，用训练证明一种疗法，并用上它。
# 数据是真实的，被观察的训练没有任何改动。
#
# 自己运行：`pip install "unvanish[notebook,demo]"`。大约需要一分钟。
# %% zh
from unvanish import i18n

language = i18n.choose("zh")  # 以下的报告和图都用中文
# %% [markdown] en
# ## The network that does not learn
#
# 1,797 handwritten digits, 360 of them kept for the test; ten sigmoid layers; SGD.
# %% [markdown] zh
# ## 学不动的网络
#
# 1797 张手写数字，其中 360 张留作测试；十个 sigmoid 层；SGD。
# %%
import torch
from sklearn.datasets import load_digits
from torch import nn

import unvanish

digits = load_digits()
order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(0))
images = torch.tensor(digits.data, dtype=torch.float32)[order]
images = (images - images.mean()) / images.std()
labels = torch.tensor(digits.target)[order]
train_x, test_x, train_y, test_y = images[:1437], images[1437:], labels[:1437], labels[1437:]
batches = list(zip(train_x.split(64), train_y.split(64), strict=True))


def build():
    layers = []
    for _ in range(10):
        layers += [nn.Linear(64, 64), nn.Sigmoid()]
    return nn.Sequential(*layers, nn.Linear(64, 10))


def loss_fn(model, batch):
    inputs, targets = batch
    return nn.functional.cross_entropy(model(inputs), targets)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9)


def train(model, epochs=10):
    optimizer = sgd(model.parameters())
    for _ in range(epochs):
        for batch in batches:
            optimizer.zero_grad()
            loss_fn(model, batch).backward()
            optimizer.step()


def accuracy(model):
    return (model(test_x).argmax(1) == test_y).float().mean().item()


# %% [markdown] en
# Train it inside `unvanish.watch()`. When the block ends, the verdict shows itself.
# %% [markdown] zh
# 在 `unvanish.watch()` 里训练它。代码块结束时，结论自己显示出来。
# %%
torch.manual_seed(0)
model = build()
with unvanish.watch(save=False) as watched:
    train(model)
# %% [markdown] en
# Ten digits, so guessing gives about 10 %. It has learnt nothing:
# %% [markdown] zh
# 十个数字，瞎猜大约有 10 %。它什么也没学到：
# %%
stuck = accuracy(model)
assert stuck < 0.2
assert watched.diagnosis.verdict == "vanishing"
assert watched.diagnosis.training == "stuck"
f"{stuck:.0%}"
# %% [markdown] en
# ## One picture
#
# The gradient starts at the loss (left) and goes back to the input (right). Each bar is what one
# factor of the chain rule takes away, in powers of ten. No single layer is to blame: every sigmoid
# takes its share, for its slope is at most 1/4, and the weights take theirs.
# %% [markdown] zh
# ## 一张图
#
# 梯度从损失（左）出发，返回到输入（右）。每个柱子是链式法则的一个因子拿走的部分，以 10 的幂计。没有哪一层
# 单独有错：每个 sigmoid 都拿走一份，因为它的斜率最多 1/4；权重也拿走一份。
# %%
watched.diagnosis.figure()
# %% [markdown] en
# The picture is not an estimate. The logarithms of the factors add up to that of the gradient, first
# layer over loss:
# %% [markdown] zh
# 这张图不是估计。各因子的对数加起来，就是第一层的梯度与损失处梯度之比的对数：
# %%
path = watched.diagnosis.run.models[0].traces[0].main_path
total = sum(edge.gain_log10 + edge.merge_log10 for edge in path.edges)
assert abs(total - (path.source_level_log10 - path.root_level_log10)) < 1e-6
f"{total:.2f} = {path.source_level_log10 - path.root_level_log10:.2f}"
# %% [markdown] en
# And the loss: it stays at ln 10 = 2.30, that of guessing. Dots are the steps that were measured.
# %% [markdown] zh
# 再看损失：它停在 ln 10 = 2.30，也就是瞎猜的损失。圆点是被测量的步。
# %%
watched.diagnosis.figure("loss")
# %% [markdown] en
# ## A cure, proven
#
# `unvanish.fix` applies candidate cures to copies of the network, trains them beside the untreated
# one, and takes the best to fresh seeds. *Proven* means: the finding is gone, and on fresh seeds the
# worst cured run beats the best untreated one by a margin.
# %% [markdown] zh
# ## 得到证明的疗法
#
# `unvanish.fix` 把候选疗法用在网络的副本上，与未治疗的网络并排训练，再把最好的拿到新的随机种子上检验。
# **已证明**的意思是：发现的问题消失了，而且在新种子上，治疗后最差的一次也明显胜过未治疗的最好一次。
# %%
torch.manual_seed(0)
result = unvanish.fix(build(), batches, loss_fn, sgd, model_fn=build, steps=230)
result
# %% [markdown] en
# The evidence, as a picture (the median over three seeds, and the range) and in numbers:
# %% [markdown] zh
# 证据，先看图（三个种子的中位数和范围），再看数：
# %%
assert result.proven
result.figure()
# %%
assert result.proof.beaten == 3
assert max(result.proof.scores) < 0.5 < min(result.proof.baseline_scores)
result.proof
# %% [markdown] en
# The same before any training: the gradient now arrives at the first layer.
# %% [markdown] zh
# 训练之前就能看出来：梯度现在能到达第一层了。
# %%
result.figure("levels")
# %% [markdown] en
# ## Put to use
#
# `result.model` is a copy with the cure applied, not trained yet; `result.code` are the lines to
# paste into your own script. Trained exactly as before:
# %% [markdown] zh
# ## 用起来
#
# `result.model` 是用上疗法的副本，还没有训练；`result.code` 是可以粘贴到自己脚本里的代码。照原样训练：
# %%
print(result.code)
# %%
cured = result.model
train(cured, epochs=20)
assert accuracy(cured) > 0.9
f"{stuck:.0%} → {accuracy(cured):.0%}"
# %%
after = unvanish.check(cured, batches[0], loss_fn)
assert after.verdict == "healthy"
after
# %% [markdown] en
# ## Or from the start: `init_`
#
# The best cure left the sigmoids as they are and only drew other starting weights. `unvanish.init_`
# does that for any network before the first step: it reads off which activation each weight feeds,
# and says what it sets, why, and what came of it. (With `dry_run=True` it only says so.)
# %% [markdown] zh
# ## 或者一开始就做好：`init_`
#
# 最好的疗法没有动 sigmoid，只是换了一组起始权重。`unvanish.init_` 在第一步之前为任何网络做这件事：它读出每个权重
# 后面接的是什么激活函数，说明设置了什么、为什么、结果如何。（`dry_run=True` 时只说不做。）
# %%
torch.manual_seed(0)
model = build()
plan = unvanish.init_(model, batches[0], loss_fn=loss_fn, scheme="orthogonal")
assert len(plan.changed) == 22
plan
# %% [markdown] en
# ## Keep watching
#
# For long runs there is `unvanish.monitor`: it looks at a few steps only, within a budget of time,
# raises alarms, and never changes the training. Shown while it runs or afterwards, it says how
# things stand.
# %% [markdown] zh
# ## 持续观察
#
# 长时间的训练用 `unvanish.monitor`：它只看少数几步，花费不超过预算，出事就报警，从不改变训练。无论训练途中还是之后，
# 显示它就能看到现状。
# %% varies
optimizer = sgd(model.parameters())
with unvanish.monitor(model, optimizer, save=False) as monitor:
    for _ in range(20):
        for batch in batches:
            optimizer.zero_grad()
            loss_fn(model, batch).backward()
            optimizer.step()
assert not monitor.alarms
monitor
# %%
assert accuracy(model) > 0.9
f"{accuracy(model):.0%}"
# %% [markdown] en
# ## What to take home
#
# - A stuck loss says that something is wrong; the factors of the chain rule say what and where.
# - A cure is worth believing once it has been trained beside the original.
# - Without a notebook: `unvanish run train.py`, `unvanish fix train.py`, `unvanish report last`.
#
# Why a sigmoid does this, by hand: [Why gradients vanish](chain.ipynb).
# %% [markdown] zh
# ## 带走什么
#
# - 损失卡住只说明出了问题；链式法则的各个因子说明是什么问题、出在哪里。
# - 一种疗法，要与原网络并排训练过，才值得相信。
# - 不用笔记本时：`unvanish run train.py`、`unvanish fix train.py`、`unvanish report last`。
#
# sigmoid 为什么会这样，可以亲手算一遍：[梯度为什么会消失](chain.zh-CN.ipynb)。
