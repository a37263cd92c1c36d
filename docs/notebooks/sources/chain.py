# %% [markdown] en
# # Why gradients vanish: the textbook chain, in six steps
#
# A course note on the vanishing gradient makes six claims, S1 to S6. Here each of them is run, and
# tested: first on a chain of single neurons, where every number can be checked by hand, then on a
# real network and real data. Some claims hold, one is refuted, one holds with conditions.
#
# To run it yourself: `pip install "unvanish[notebook,demo]"`. It takes about half a minute.
# %% [markdown] zh
# # 梯度为什么会消失：教科书里的神经元链，六步讲清
#
# 一份讲梯度消失的课程笔记提出了六个论断，S1 到 S6。这里逐一运行并检验：先在单个神经元连成的链上，每个数都能手算核对；
# 再到真实的网络和真实的数据上。有的成立，有一个被推翻，有一个要加条件才成立。
#
# 自己运行：`pip install "unvanish[notebook,demo]"`。大约需要半分钟。
# %% zh
from unvanish import i18n

language = i18n.choose("zh")  # 以下的报告和图都用中文
# %%
import torch
from IPython.display import Markdown
from sklearn.datasets import load_digits
from torch import nn

import unvanish
from unvanish.chain import ACTIVATIONS, band_width, five_chains, make_chain, run_claims, solve
from unvanish.chain import train as train_chain
from unvanish.chain import widest_band
from unvanish.chain.explain import story
from unvanish.figures import story as pictures

# %% [markdown] en
# ## S1 · The gradient is a product
#
# One neuron a layer: $z_k = w_k a_{k-1} + b_k$, $a_k = \sigma(z_k)$, and a cost
# $C = \tfrac12 (a_L - y)^2$. By the chain rule $\partial C/\partial w_1$ is a product with one
# factor $w_k\,\sigma'(z_k)$ for each neuron that the signal passes on its way back.
# `solve` runs a chain on one input and shows every factor.
# %% [markdown] zh
# ## S1 · 梯度是一个乘积
#
# 每层一个神经元：$z_k = w_k a_{k-1} + b_k$，$a_k = \sigma(z_k)$，代价为 $C = \tfrac12 (a_L - y)^2$。
# 由链式法则，$\partial C/\partial w_1$ 是一个乘积：信号在返回途中每经过一个神经元，就乘上一个因子
# $w_k\,\sigma'(z_k)$。`solve` 让链处理一个输入，并列出每个因子。
# %%
weights, biases = [0.5, -1.2, 0.8], [0.1, 0.0, -0.3]
solution = solve(make_chain(weight=weights, bias=biases), a_0=0.9, target=0.2)
solution
# %% [markdown] en
# Is that right? PyTorch's autograd knows nothing of our formulas. It gets the same numbers.
# %% [markdown] zh
# 对不对？PyTorch 的自动求导并不知道我们的公式，得到的却是同样的数。
# %%
w = torch.tensor(weights, dtype=torch.float64, requires_grad=True)
a = torch.tensor(0.9, dtype=torch.float64)
for k in range(3):
    a = torch.sigmoid(w[k] * a + biases[k])
(0.5 * (a - 0.2) ** 2).backward()

by_hand = torch.tensor([neuron.dC_dw for neuron in solution.neurons], dtype=torch.float64)
assert torch.allclose(w.grad, by_hand, rtol=1e-12, atol=0)
[f"{gradient:.9f}" for gradient in w.grad]
# %% [markdown] en
# ## S2 · One flat spot is enough
#
# The sigmoid's slope is at most 1/4, at $z = 0$. Beyond $|z| = 4$ (grey) it is nearly 0: the neuron
# is *saturated*.
# %% [markdown] zh
# ## S2 · 一处平坦就够了
#
# sigmoid 的斜率最大为 1/4，在 $z = 0$ 处。$|z| > 4$ 的地方（灰色）斜率几乎为 0：这个神经元**饱和**了。
# %%
sigmoid = ACTIVATIONS["sigmoid"]
assert sigmoid.slope(0) == 0.25
assert sigmoid.slope(4) < 0.018
pictures.slope("sigmoid")
# %% [markdown] en
# Ten neurons with $w = 4$ at $z = 0$: every factor is exactly 1, nothing is lost. Now saturate the
# fifth neuron, and only that one.
# %% [markdown] zh
# 十个神经元，$w = 4$，$z = 0$：每个因子恰好是 1，什么也不损失。现在只让第五个神经元饱和，其余不变。
# %%
good = solve(make_chain(10, weight=4, pre_activation=0))
spoilt = solve(make_chain(10, weight=4, pre_activation=[0, 0, 0, 0, 8, 0, 0, 0, 0, 0]))
assert good.input_gain == 1
assert abs(spoilt.input_gain - 4 * sigmoid.slope(8)) < 1e-15
spoilt
# %% [markdown] en
# And in a real network? Here are 1,797 handwritten digits and a network of ten equal layers, the
# same in all that follows. `scale` is the standard deviation of the weights times
# $\sqrt{\text{inputs}}$; without it they are PyTorch's own.
# %% [markdown] zh
# 真实的网络呢？下面是 1797 张手写数字和一个十层等宽的网络，后文一直用它们。`scale` 是权重的标准差乘以
# $\sqrt{\text{输入个数}}$；不给就用 PyTorch 的默认初始化。
# %%
digits = load_digits()
order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(0))
images = torch.tensor(digits.data, dtype=torch.float32)[order]
images = (images - images.mean()) / images.std()
labels = torch.tensor(digits.target)[order]
train_x, test_x, train_y, test_y = images[:1437], images[1437:], labels[:1437], labels[1437:]
batches = list(zip(train_x.split(64), train_y.split(64), strict=True))


def network(activation, scale=None, depth=10):
    torch.manual_seed(0)
    layers = []
    for _ in range(depth):
        linear = nn.Linear(64, 64)
        if scale is not None:
            nn.init.normal_(linear.weight, std=scale / 64**0.5)
            nn.init.zeros_(linear.bias)
        layers += [linear, activation()]
    return nn.Sequential(*layers, nn.Linear(64, 10))


def loss_fn(model, batch):
    inputs, targets = batch
    return nn.functional.cross_entropy(model(inputs), targets)


# %% [markdown] en
# With large weights about half of all units are saturated, in every layer. `unvanish.check` reads
# that off one backward pass, for any activation.
# %% [markdown] zh
# 权重取大时，每一层都有大约一半的单元饱和。`unvanish.check` 只用一次反向传播就能读出来，对任何激活函数都行。
# %%
large = unvanish.check(network(nn.Sigmoid, scale=10), batches[0], loss_fn)
rows = [row for row in large.run.models[0].traces[0].layers if row.saturated_share is not None]
assert len(rows) == 10
assert min(row.saturated_share for row in rows) > 0.3
large.figure("slopes")
# %% [markdown] en
# ## S3 · The earlier the layer, the worse
#
# Factors below 1 multiply. Read each line from the right, where the signal starts, to the left:
# the deeper the chain, the less arrives at its front.
# %% [markdown] zh
# ## S3 · 越靠前的层越糟
#
# 小于 1 的因子连乘。每条线从右往左看，信号从右端出发：链越深，到达最前端的就越少。
# %%
chains = {f"L = {depth}": solve(make_chain(depth)) for depth in (5, 10, 20)}
assert chains["L = 20"].input_gain < 1e-12
pictures.gains(chains)
# %% [markdown] en
# The real network does the same. *Level* is the size of the gradient at a layer, in powers of ten.
# %% [markdown] zh
# 真实的网络也一样。**水平**（level）是某一层上梯度的大小，以 10 的幂表示。
# %%
default = unvanish.check(network(nn.Sigmoid), batches[0], loss_fn)
default.figure("levels")
# %% [markdown] en
# And this is what it is put down to. Nothing is guessed here: the factors add up exactly.
# %% [markdown] zh
# 原因归结如下。这里没有任何猜测：各个因子加起来分毫不差。
# %%
assert default.verdict == "vanishing"
path = default.run.models[0].traces[0].main_path
total = sum(edge.gain_log10 + edge.merge_log10 for edge in path.edges)
assert abs(total - (path.source_level_log10 - path.root_level_log10)) < 1e-6
default


# %% [markdown] en
# ## S4 · What it looks like from outside
#
# The loss stops falling at once, and the accuracy stays that of guessing.
# %% [markdown] zh
# ## S4 · 从外面看是什么样子
#
# 损失一开始就不再下降，准确率停在瞎猜的水平。
# %%
def train(model, lr=0.01, epochs=10):
    """Train with SGD; return the accuracy on digits that were not trained on."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    for _ in range(epochs):
        for batch in batches:
            optimizer.zero_grad()
            loss_fn(model, batch).backward()
            optimizer.step()
    return (model(test_x).argmax(1) == test_y).float().mean().item()


with unvanish.watch(save=False, quiet=True) as watched:
    accuracy = train(network(nn.Sigmoid))
assert watched.diagnosis.training == "stuck"
assert accuracy < 0.2
watched.diagnosis.figure("loss")
# %% [markdown] en
# A chain of single neurons can be trained too, here on the line $y = 0.1 + 0.4x$. The plain sigmoid
# chain sticks at the dashed line: the best that an answer can do which ignores $x$. Its front does
# not learn, so $x$ never gets through.
# %% [markdown] zh
# 单个神经元的链也能训练，这里学的是直线 $y = 0.1 + 0.4x$。普通的 sigmoid 链卡在虚线上：那是完全不看 $x$
# 的回答所能达到的最好结果。链的前端学不动，$x$ 就永远传不过去。
# %%
trainings = {name: train_chain(chain) for name, chain in five_chains().items()}
assert trainings["sigmoid"].outcome == "still"
pictures.losses(trainings)
# %%
Markdown("\n".join(f"- **{name}**: {story(one)}" for name, one in trainings.items()))
# %% [markdown] en
# ## S5 · Method 1, large weights: refuted
#
# The note's first remedy: if the slope is at most 1/4, take $w = 10$. At $z = 0$ a factor is then
# 2.5, and ten of them are $2.5^{10} = 9536.7$. The gradient does not vanish. It explodes.
# %% [markdown] zh
# ## S5 · 方法一，大权重：被推翻
#
# 笔记的第一个办法：既然斜率最多 1/4，就取 $w = 10$。在 $z = 0$ 处一个因子是 2.5，十个就是
# $2.5^{10} = 9536.7$。梯度不消失了，却爆炸了。
# %%
big = solve(make_chain(10, weight=10, pre_activation=0))
assert big.input_gain == 2.5**10 == 9536.7431640625
big
# %% [markdown] en
# That needs every $z_k = 0$, hence ten biases made for this one input. With biases 0 the same large
# weights push every $z$ to 10, into saturation, and the gradient vanishes worse than ever.
# %% [markdown] zh
# 而这要求每个 $z_k = 0$，也就是专为这一个输入定做的十个偏置。偏置取 0 时，同样的大权重把每个 $z$ 推到
# 10，进入饱和区，梯度消失得比以往更厉害。
# %%
plain = solve(make_chain(10, weight=10, bias=0))
assert plain.input_gain < 1e-30
pictures.gains(
    {"w = 1, b = 0": solve(make_chain(10)), "w = 10, z = 0": big, "w = 10, b = 0": plain}
)
# %% [markdown] en
# Could the inputs simply stay where the slope is steep? A factor $|w\,\sigma'(wx+b)|$ of 1 or more
# needs $x$ in a narrow *band*. For $w = 10$ it is 0.41 wide, and larger weights make it narrower.
# %% [markdown] zh
# 能不能让输入一直待在斜率大的地方？因子 $|w\,\sigma'(wx+b)|$ 要达到 1，$x$ 必须落在一个狭窄的**区间**里。
# $w = 10$ 时它只有 0.41 宽，权重再大，区间反而更窄。
# %%
weight, width = widest_band()
assert round(band_width(10), 2) == 0.41
assert (round(weight, 2), round(width, 2)) == (6.89, 0.45)
assert band_width(3.9) == 0
pictures.band([2, 4, 6.89, 10, 100])
# %% [markdown] en
# Training shows what follows. With $z = 0$ the first step is a giant one, and the chain is dead
# afterwards.
# %% [markdown] zh
# 训练一下就知道后果。$z = 0$ 时第一步是一大步，之后这条链就死了。
# %%
dead = trainings["sigmoid w=10 z=0"]
assert dead.outcome == "dead"
assert dead.largest_step == 0
assert dead.step_sizes[0] > 1
dead
# %% [markdown] en
# On the real network, large weights do keep the gradient alive at one scale: theory puts it at
# $\sigma_w = 10.15$, close to the note's 10. It still does not train well.
# %% [markdown] zh
# 在真实的网络上，确实有一个尺度的大权重能让梯度活下来：理论给出 $\sigma_w = 10.15$，和笔记的 10 很近。
# 可它还是训练不好。
# %%
point = unvanish.critical("sigmoid")
assert abs(point.sigma_w - 10.149) < 1e-3
point
# %%
found = {}
for scale in (10, 100):
    model = network(nn.Sigmoid, scale)
    verdict = unvanish.check(model, batches[0], loss_fn).verdict
    found[scale] = (verdict, round(train(model), 2))
assert found[10][0] == "healthy"
assert found[10][1] < 0.7
assert found[100][0] == "exploding"
assert found[100][1] < 0.3
found
# %% [markdown] en
# ## S6 · Method 2, ReLU: true, with the right weights
#
# The note says of the ReLU: its slope is 1 where $z > 0$, so the product neither grows nor shrinks,
# and its derivative is cheap. Three claims, tested over random networks.
# %% [markdown] zh
# ## S6 · 方法二，ReLU：成立，但权重要配得上
#
# 笔记这样说 ReLU：$z > 0$ 时斜率为 1，所以乘积既不增长也不缩小，而且导数便宜。三个论断，在随机网络上检验。
# %% varies
claims = run_claims(draws=300)
assert claims.slope.holds
deep = [row for row in claims.spread if row.depth >= 5]
assert {row.scheme for row in deep if row.steady} == {"he"}
claims
# %% [markdown] en
# So the second claim is a matter of scale. The same network and data again, with ReLU: PyTorch's
# default weights ($\sigma_w = 0.58$), Xavier's (1), He's ($\sqrt 2$).
# %% [markdown] zh
# 可见第二个论断取决于权重的尺度。还是同样的网络和数据，换成 ReLU：PyTorch 的默认权重（$\sigma_w = 0.58$）、
# Xavier（1）、He（$\sqrt 2$）。
# %%
scales = {"default": None, "xavier": 1.0, "he": 2**0.5}
tried = {}
for name, scale in scales.items():
    model = network(nn.ReLU, scale)
    layers = unvanish.check(model, batches[0], loss_fn).run.models[0].traces[0].layers
    each = 10 ** ((layers[0].level_log10 - layers[-1].level_log10) / 10)
    tried[name] = (each, train(model))
assert tried["default"][0] < 0.5
assert tried["default"][1] < 0.2
assert tried["he"][0] > 0.85
assert tried["he"][1] > 0.9
{name: f"×{each:.2f}, {accuracy:.0%}" for name, (each, accuracy) in tried.items()}
# %% [markdown] en
# (Gain of the gradient a layer, and accuracy after training.) With PyTorch's default, ReLU vanishes
# like a sigmoid. With He's weights it trains.
#
# The price is units that are off for every input: no gradient, so they never come back. A learning
# rate that is three times as large kills several times as many.
# %% [markdown] zh
# （每层的梯度增益，以及训练后的准确率。）用 PyTorch 的默认权重，ReLU 和 sigmoid 一样会消失；用 He 的权重，就能训练。
#
# 代价是对所有输入都关闭的单元：没有梯度，也就再也醒不过来。学习率大到三倍，死掉的单元就多出几倍。
# %%
shares = {}
for lr in (0.01, 0.03):
    model = network(nn.ReLU, 2**0.5)
    train(model, lr)
    after = unvanish.check(model, (train_x, train_y), loss_fn)
    rows = [row for row in after.run.models[0].traces[0].layers if row.dead_share is not None]
    shares[lr] = sum(row.dead_share for row in rows) / len(rows)
assert shares[0.03] > 2 * shares[0.01]
{lr: f"{share:.1%}" for lr, share in shares.items()}
# %%
after.figure("slopes")
# %% [markdown] en
# ## What is left of it
#
# | | claim | outcome |
# |---|---|---|
# | S1 | the gradient is a product of factors | true, to the last digit of autograd |
# | S2 | one saturated neuron kills it | true |
# | S3 | the earlier the layer, the worse | true |
# | S4 | the loss sticks early | true |
# | S5 | large weights help | refuted: the first step explodes, other inputs saturate |
# | S6 | ReLU helps | true with weights of He's scale; dead units are its price |
#
# Move the numbers yourself, here or with `unvanish chain --depth 10 --weight 10
# --pre-activation 0`. How such a network is cured: [A stuck network, found and
# cured](stuck-network.ipynb).
# %% [markdown] zh
# ## 还剩下什么
#
# | | 论断 | 结果 |
# |---|---|---|
# | S1 | 梯度是各因子的乘积 | 成立，与自动求导一致到最后一位 |
# | S2 | 一个饱和的神经元就足以毁掉它 | 成立 |
# | S3 | 越靠前的层越糟 | 成立 |
# | S4 | 损失很早就卡住 | 成立 |
# | S5 | 大权重有用 | 被推翻：第一步就爆炸，换个输入又饱和 |
# | S6 | ReLU 有用 | 权重取 He 的尺度才成立；代价是死亡单元 |
#
# 自己动手改改这些数：就在这里，或者用 `unvanish chain --depth 10 --weight 10 --pre-activation 0`。
# 这样的网络怎么治：[卡住的网络：找到病因并治好](stuck-network.zh-CN.ipynb)。
