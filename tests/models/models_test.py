"""Tests of the networks: sizes, gradients, normalization, weights and real faces."""

import functools
import gzip
import io
import math
import zipfile
from collections import defaultdict

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from PIL import Image

from mijax.models import (
    Prediction,
    cifar_resnet,
    conv_net,
    face_evolve,
    initialization,
    layers,
    lenet,
    mlp,
    mobile_face_net,
    mobile_face_net_ms1m,
    resnet,
    strided,
    vgg,
    weights,
)

# A tiny member of each family, the images it takes, and its number of features.
FAMILIES = {
    "softmax": (mlp.SoftmaxRegression(5), (6, 5, 1), 30),
    "mlp": (mlp.MLP(5, widths=(8, 7)), (6, 5, 1), 7),
    "dae": (mlp.DAE(5, (6, 5, 1), widths=(8, 7)), (6, 5, 1), 7),
    "lenet": (lenet.LeNet(5), (32, 32, 1), 84),
    "scnn": (lenet.scnn(5, width=2), (16, 16, 1), 16),
    "vgg16": (vgg.VGG16(5, width=2), (32, 32, 1), 16),
    "resnet_basic": (
        resnet.ResNet(5, (1, 1), resnet.BasicBlock, width=2),
        (8, 8, 3),
        4,
    ),
    "resnet_bottleneck": (
        resnet.ResNet(5, (1, 1), resnet.BottleneckBlock, 2, small_images=False),
        (32, 32, 3),
        16,
    ),
    "face_evolve": (
        face_evolve.FaceEvolve(5, width=2, stage_sizes=(1, 1), embedding=6),
        (16, 16, 1),
        6,
    ),
    "cifar_resnet": (cifar_resnet.CifarResNet(5, depth=8, width=4), (16, 16, 3), 16),
    "conv_net": (conv_net.ConvNet(5, width=2), (12, 12, 3), 8),
    "strided": (strided.StridedConvNet(5, (3, 2), (2, 1)), (8, 8, 1), 32),
}
# Tests run each program once, so they compile it quickly.
quickly = functools.partial(
    jax.jit,
    compiler_options={
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    },
)
NORMALIZED = set(FAMILIES) - {"softmax", "mlp", "dae", "lenet", "strided"}


def images(shape, batch=4):
    return jax.random.uniform(jax.random.key(1), (batch, *shape))


def variables_of(module, image_shape):
    """Variables of the right shapes, without compiling the initialization."""
    rng = np.random.default_rng(0)

    def leaf(path, shape):
        if path[-1].endswith("kernel"):
            return rng.normal(size=shape) / math.sqrt(math.prod(shape[:-1]))
        value = {"scale": 1.0, "var": 1.0, "slope": 0.25}.get(path[-1], 0.0)
        return np.full(shape, value)

    leaves = traverse_util.flatten_dict(weights.shapes(module, image_shape))
    return traverse_util.unflatten_dict(
        {p: jnp.asarray(leaf(p, s.shape), s.dtype) for p, s in leaves.items()}
    )


def number_of_parameters(module, image_shape):
    params = weights.shapes(module, image_shape)["params"]
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def assert_trees_equal(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_classifier(family):
    """Shapes, finite gradients, features behind the logits, and normalization."""
    module, shape, width = FAMILIES[family]
    assert hash(module) == hash(module.clone())
    x = images(shape)
    variables = variables_of(module, shape)
    assert ("batch_stats" in variables) == (family in NORMALIZED)

    @quickly
    def evaluate(variables, x):
        def loss(params, x):
            prediction = module.apply(variables | {"params": params}, x, train=False)
            return jnp.sum(jax.nn.log_softmax(prediction.logits)[:, 0]), prediction

        trained = module.apply(variables, x, train=True, mutable=["batch_stats"])
        gradients, prediction = jax.grad(loss, (0, 1), has_aux=True)(
            variables["params"], x
        )
        return gradients, prediction, trained

    (by_params, by_x), prediction, (trained, updated) = evaluate(variables, x)
    assert isinstance(prediction, Prediction)
    assert prediction.logits.shape == (4, 5)
    assert prediction.features.shape == (4, width)
    head = variables["params"].get("logits") or variables["params"]["linear"]
    np.testing.assert_allclose(
        prediction.logits,
        prediction.features @ head["kernel"] + head["bias"][None],
        rtol=1e-4,
        atol=1e-4,
    )
    for leaf in jax.tree.leaves((by_params, by_x)):
        assert np.isfinite(leaf).all()
    assert np.abs(by_x).max() > 0

    # In evaluation an image's answer does not depend on its batch; in training it does.
    _, mixed, _ = evaluate(variables, x.at[1:].set(1 - x[1:]))
    np.testing.assert_allclose(mixed.logits[0], prediction.logits[0], atol=1e-5)
    if family in NORMALIZED:
        assert np.abs(trained.logits - prediction.logits).max() > 1e-3
        old, new = variables["batch_stats"], updated["batch_stats"]
        changed = jax.tree.map(lambda a, b: bool((a != b).any()), old, new)
        assert all(jax.tree.leaves(changed))
    else:
        np.testing.assert_allclose(trained.logits, prediction.logits, rtol=1e-5)


@pytest.mark.parametrize(
    ("module", "image_shape", "published"),
    [
        (
            vgg.VGG16(1000, dense_widths=(4096, 4096), normalize_features=False),
            (224, 224, 3),
            138_365_992,
        ),
        (resnet.resnet18(1000, small_images=False), (224, 224, 3), 11_689_512),
        (resnet.resnet152(1000, small_images=False), (224, 224, 3), 60_192_808),
        (cifar_resnet.CifarResNet(depth=20), (32, 32, 3), 269_722),
        (cifar_resnet.CifarResNet(depth=56), (32, 32, 3), 853_018),
        (lenet.LeNet(), (32, 32, 1), 61_706),
        (mlp.MLP(40), (112, 92, 1), 10_304 * 3000 + 3000 + 3000 * 40 + 40),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_sizes_are_the_published_ones(module, image_shape, published):
    assert number_of_parameters(module, image_shape) == published


def test_face_evolve_is_ir50():
    """The published 43.6 million parameters are those of the embedding network."""
    module = face_evolve.FaceEvolve(num_classes=1)
    head = 512 + 1
    size = number_of_parameters(module, (112, 112, 3)) - head
    assert size == pytest.approx(43.6e6, rel=2e-3)


def test_digit_target_has_the_published_kernels():
    params = weights.shapes(lenet.mcnn(), (32, 32, 1))["params"]
    kernels = [params[f"conv_{index}"]["kernel"].shape for index in range(3)]
    assert kernels == [(7, 7, 1, 64), (5, 5, 64, 128), (5, 5, 128, 256)]
    assert params["logits"]["kernel"].shape == (4 * 4 * 256, 10)


def test_option_a_shortcut_passes_the_input():
    """With all weights at zero a block is its shortcut: subsampled, zero-padded."""
    block = cifar_resnet.OptionABlock(width=4, stride=2)
    x = images((4, 4, 2))
    shapes = jax.eval_shape(lambda x: block.init(jax.random.key(0), x, False), x)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)
    y = block.apply(zeros, x, False)
    np.testing.assert_allclose(y[..., 1:3], x[:, ::2, ::2])
    np.testing.assert_allclose(y[..., (0, 3)], 0)


def test_fields_that_disagree_are_refused():
    with pytest.raises(ValueError, match="one entry a convolution"):
        weights.shapes(lenet.LeNet(widths=(6, 16)), (32, 32, 1))
    with pytest.raises(ValueError, match="6n \\+ 2"):
        weights.shapes(cifar_resnet.CifarResNet(depth=21), (32, 32, 3))
    with pytest.raises(ValueError, match="larger"):
        weights.shapes(vgg.VGG16(5, width=2), (16, 16, 1))
    with pytest.raises(ValueError, match="larger"):
        weights.shapes(lenet.LeNet(), (12, 12, 1))


def test_initialize_is_init():
    module, shape, _ = FAMILIES["mlp"]
    variables = initialization.initialize(jax.random.key(3), module, shape)
    expected = module.init(jax.random.key(3), images(shape))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        variables,
        expected,
    )


def test_uniform_draws_all_parameters_and_nothing_else():
    module, shape, _ = FAMILIES["conv_net"]
    variables = initialization.uniform(jax.random.key(3), module, shape, 0.5)
    drawn = np.concatenate(
        [np.ravel(leaf) for leaf in jax.tree.leaves(variables["params"])]
    )
    assert -0.5 <= drawn.min() < -0.45 and 0.45 < drawn.max() < 0.5
    assert abs(drawn.mean()) < 0.05
    means = variables["batch_stats"]["norm_0"]["mean"]
    np.testing.assert_array_equal(means, 0)


# The published sizes: DLG's 768-100 classifier, Geiping's 36 * 64 features.


@pytest.mark.parametrize(
    ("module", "shape", "features"),
    [
        (strided.dlg_lenet(100), (32, 32, 3), 768),
        (strided.cpl_lenet(106), (32, 32, 3), 768),
        (conv_net.ConvNet(10, 64), (32, 32, 3), 36 * 64),
    ],
)
def test_leaking_networks_have_their_published_features(module, shape, features):
    kernel = weights.shapes(module, shape)["params"]["logits"]["kernel"]
    assert kernel.shape == (features, module.num_classes)


# Layers


@pytest.mark.parametrize("side", [2, 3])
def test_max_pool_equals_the_window_reduction(side):
    x = jax.random.normal(jax.random.key(0), (2, 7, 6, 3))
    weight = jax.random.normal(jax.random.key(1), (2, 7 // side, 6 // side, 3))
    reduce = lambda x: nn.max_pool(x, (side, side), strides=(side, side))
    pool = functools.partial(layers.max_pool, side=side)
    np.testing.assert_array_equal(pool(x), reduce(x))
    gradients = [
        jax.grad(lambda x, f=f: jnp.sum(weight * f(x)))(x) for f in (pool, reduce)
    ]
    np.testing.assert_allclose(gradients[0], gradients[1])


def test_prelu_has_one_slope_a_channel():
    x = jnp.array([[1.0, -2.0], [-3.0, 4.0]])
    y = layers.PReLU().apply({"params": {"slope": jnp.array([0.5, 0.1])}}, x)
    np.testing.assert_allclose(y, [[1.0, -0.2], [-1.5, 4.0]])


def test_running_statistics_move_by_a_tenth():
    class Normalized(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            return layers.batch_norm(train, name="norm")(x)

    x = jnp.array([[1.0], [5.0]])
    variables = Normalized().init(jax.random.key(0), x, False)
    y, updated = Normalized().apply(variables, x, True, mutable=["batch_stats"])
    np.testing.assert_allclose(y, [[-1.0], [1.0]], rtol=1e-5)
    statistics = updated["batch_stats"]["norm"]
    np.testing.assert_allclose(statistics["mean"], [0.1 * 3.0], rtol=1e-6)
    np.testing.assert_allclose(statistics["var"], [0.9 * 1.0 + 0.1 * 4.0], rtol=1e-6)


# The autoencoder


@pytest.mark.parametrize("tied", [True, False])
def test_autoencoder_layers_compose(tied):
    module = mlp.DAE(5, (6, 5, 1), widths=(8, 7), tied=tied)
    x = images((6, 5, 1))
    variables = variables_of(module, (6, 5, 1))
    assert ("decoder_0_kernel" in variables["params"]) != tied
    call = lambda *args, method: module.apply(variables, *args, method=method)
    first = call(x, 1, method=mlp.DAE.encode)
    assert first.shape == (4, 8)
    assert call(first, 1, method=mlp.DAE.decode).shape == x.shape
    deepest = call(x, method=mlp.DAE.encode)
    assert deepest.shape == (4, 7)
    assert call(deepest, method=mlp.DAE.decode).shape == x.shape
    # Depth 0 is the image itself.
    pixels = call(x, 0, method=mlp.DAE.encode)
    np.testing.assert_array_equal(call(pixels, 0, method=mlp.DAE.decode), x)


def test_autoencoder_learns_to_restore():
    """The loss of a layer falls and trains that layer alone."""
    module = mlp.DAE(5, (4, 4, 1), widths=(12, 6))
    x = jnp.round(images((4, 4, 1), batch=8))
    variables = variables_of(module, (4, 4, 1))

    def loss(params, key, depth):
        losses = mlp.denoising_loss(module, {"params": params}, key, x, depth, 0.1)
        assert losses.shape == (8,)
        return losses.mean()

    second = jax.grad(loss)(variables["params"], jax.random.key(0), depth=2)
    assert np.abs(second["encoder_1_kernel"]).max() > 0
    assert np.abs(second["encoder_0_kernel"]).max() == 0

    def step(params, key):
        value, gradient = jax.value_and_grad(loss)(params, key, 1)
        return jax.tree.map(lambda p, g: p - 0.5 * g, params, gradient), value

    keys = jax.random.split(jax.random.key(1), 300)
    _, trace = jax.lax.scan(step, variables["params"], keys)
    assert trace[-20:].mean() < 0.5 * trace[0]


def test_autoencoder_refuses_wrong_shapes():
    module = mlp.DAE(5, (6, 5, 1), widths=(8, 7))
    variables = variables_of(module, (6, 5, 1))
    with pytest.raises(ValueError, match=r"\(4, 5, 6, 1\)"):
        module.apply(variables, images((5, 6, 1)))
    with pytest.raises(ValueError, match="from 0 to 2"):
        module.apply(variables, images((6, 5, 1)), 3, method=mlp.DAE.encode)
    with pytest.raises(ValueError, match=r"\[B, 8\]"):
        module.apply(variables, jnp.zeros((4, 7)), 1, method=mlp.DAE.decode)
    with pytest.raises(ValueError, match="at least 1"):
        mlp.denoising_loss(
            module, variables, jax.random.key(0), images((6, 5, 1)), depth=0
        )


# Weights


@pytest.fixture
def saved(tmp_path):
    module = resnet.resnet18(5, width=2)
    variables = variables_of(module, (16, 16, 3))
    path = tmp_path / "weights.npz"
    weights.save(path, variables)
    return path, variables, weights.shapes(module, (16, 16, 3))


def test_weights_round_trip(saved):
    path, variables, like = saved
    assert_trees_equal(weights.load(path, like, "ResNet-18"), variables)
    assert "params/stem/kernel" in weights.read(path)
    content = path.read_bytes()
    weights.save(path, variables)
    assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_half_precision_is_read_as_single(saved):
    path, variables, like = saved
    weights.save(path, variables, np.float16)
    assert {array.dtype for array in weights.read(path).values()} == {np.dtype("f2")}
    loaded = weights.load(path, like, "ResNet-18")
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded)} == {np.dtype("f4")}
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6),
        loaded,
        variables,
    )


def test_values_that_cannot_be_stored_are_refused(tmp_path):
    path = tmp_path / "weights.npz"
    with pytest.raises(ValueError, match="params/a is not finite as float16"):
        weights.save(path, {"params": {"a": jnp.array([1e6])}}, np.float16)
    with pytest.raises(ValueError, match="params/a is not finite as float32"):
        weights.save(path, {"params": {"a": jnp.array([jnp.nan])}})
    assert not list(tmp_path.iterdir())


def test_another_architecture_is_one_error(saved):
    path, _, _ = saved
    like = weights.shapes(resnet.resnet18(7, width=2), (16, 16, 3))
    with pytest.raises(ValueError, match=r"ResNet-18.*logits/bias has shape \(5,\)"):
        weights.load(path, like, "ResNet-18 with 7 classes")
    like = weights.shapes(vgg.VGG16(5, width=2), (32, 32, 3))
    with pytest.raises(ValueError, match=r"VGG16.*is missing.*and \d+ more\.$"):
        weights.load(path, like, "VGG16")


def test_files_that_are_not_weights_are_refused(saved):
    path, _, like = saved
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"not an archive"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"weights\.npz is not a whole \.npz"):
            weights.load(path, like, "ResNet-18")
    position = len(content) // 3
    flipped = bytes([content[position] ^ 255])
    path.write_bytes(content[:position] + flipped + content[position + 1 :])
    with pytest.raises(ValueError, match="not a whole"):
        weights.load(path, like, "ResNet-18")
    np.savez(path, a=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="not a whole"):
        weights.read(path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match="not a whole"):
        weights.read(path)
    with pytest.raises(FileNotFoundError):
        weights.read(path.with_name("absent.npz"))


def torch_arrays():
    rng = np.random.default_rng(0)
    return {
        "c.weight": rng.normal(size=(3, 2, 5, 4)).astype(np.float32),
        "c.bias": rng.normal(size=3).astype(np.float32),
        "n.weight": rng.normal(size=3).astype(np.float32),
        "n.bias": rng.normal(size=3).astype(np.float32),
        "n.running_mean": rng.normal(size=3).astype(np.float32),
        "n.running_var": rng.uniform(size=3).astype(np.float32),
        "n.num_batches_tracked": np.array(7),
        "d.weight": rng.normal(size=(6, 3)).astype(np.float32),
        "d.bias": rng.normal(size=6).astype(np.float32),
    }


def torch_like():
    zeros = np.zeros
    return {
        "params": {
            "conv": {"kernel": zeros((5, 4, 2, 3), "f4"), "bias": zeros(3, "f4")},
            "norm": {"scale": zeros(3, "f4"), "bias": zeros(3, "f4")},
            "dense": {"kernel": zeros((3, 6), "f4"), "bias": zeros(6, "f4")},
        },
        "batch_stats": {"norm": {"mean": zeros(3, "f4"), "var": zeros(3, "f4")}},
    }


def test_from_torch_transposes():
    arrays = torch_arrays()
    variables = weights.from_torch(arrays, torch_like(), lambda m: m[0], "a network")
    params = variables["params"]
    assert params["conv"]["kernel"][1, 2, 0, 1] == arrays["c.weight"][1, 0, 1, 2]
    np.testing.assert_array_equal(params["dense"]["kernel"], arrays["d.weight"].T)
    np.testing.assert_array_equal(params["norm"]["scale"], arrays["n.weight"])
    np.testing.assert_array_equal(
        variables["batch_stats"]["norm"]["var"], arrays["n.running_var"]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"c.weight": None}, "c.weight is missing"),
        ({"extra.weight": np.zeros(1)}, "extra.weight is not expected"),
        (
            {"d.weight": np.zeros((3, 6))},
            r"d.weight has shape \(3, 6\), not \(6, 3\)",
        ),
        ({"c.bias": np.array([0, np.inf, 0])}, "c.bias is not finite"),
        ({"c.bias": np.array(["a", "b", "c"])}, "c.bias holds <U1, not numbers"),
    ],
)
def test_from_torch_names_what_is_wrong(change, message):
    arrays = {n: a for n, a in (torch_arrays() | change).items() if a is not None}
    with pytest.raises(ValueError, match=f"those of a network: {message}"):
        weights.from_torch(arrays, torch_like(), lambda m: m[0], "a network")


# Published weights and real faces


@pytest.mark.real_data
@pytest.mark.parametrize("depth", [20, 56])
def test_cifar_resnet_equals_pytorch(data_dir, depth):
    variables = cifar_resnet.load(data_dir / f"weights/cifar_resnet{depth}.npz", depth)
    reference = weights.read(data_dir / f"weights/cifar_resnet{depth}_reference.npz")
    x = reference["x_nchw"].transpose(0, 2, 3, 1)
    prediction = jax.jit(cifar_resnet.CifarResNet(depth=depth).apply)(variables, x)
    assert isinstance(prediction, Prediction)
    np.testing.assert_allclose(prediction.logits, reference["logits"], atol=1e-3)


@pytest.mark.real_data
def test_mobile_face_net_equals_pytorch(data_dir):
    variables = mobile_face_net.load(data_dir / "weights/mobilefacenet.npz")
    reference = weights.read(data_dir / "weights/mobilefacenet_reference.npz")
    x = reference["x_nchw"].transpose(0, 2, 3, 1)
    embedding = jax.jit(mobile_face_net.MobileFaceNet().apply)(variables, x)
    expected = reference["embedding"]
    error = np.linalg.norm(embedding - expected, axis=1)
    assert (error <= 1e-4 * np.linalg.norm(expected, axis=1)).all()


@pytest.mark.real_data
def test_mobile_face_net_ms1m_equals_pytorch(data_dir):
    variables = mobile_face_net_ms1m.load(data_dir / "weights/mobilefacenet_ms1m.npz")
    reference = weights.read(data_dir / "weights/mobilefacenet_ms1m_reference.npz")
    x = reference["input"].transpose(0, 2, 3, 1)
    network = mobile_face_net_ms1m.MobileFaceNetMS1M()
    embedding = jax.jit(network.apply)(variables, x)
    expected = reference["embedding"]
    error = np.linalg.norm(embedding - expected, axis=1)
    assert (error <= 1e-4 * np.linalg.norm(expected, axis=1)).all()


@pytest.mark.real_data
def test_weights_of_another_network_are_refused(data_dir):
    with pytest.raises(ValueError, match="not those of MobileFaceNet"):
        mobile_face_net.load(data_dir / "weights/mnist_lenet.npz")
    with pytest.raises(ValueError, match="not those of CIFAR ResNet-56"):
        cifar_resnet.load(data_dir / "weights/cifar_resnet20.npz", depth=56)


@pytest.mark.real_data
def test_mnist_lenet_reads_digits(data_dir):
    variables = lenet.load(data_dir / "weights/mnist_lenet.npz")
    read = lambda name, header: np.frombuffer(
        gzip.decompress((data_dir / "mnist" / name).read_bytes()), np.uint8, -1, header
    )
    x = read("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28, 1)[:2000] / 255
    y = read("t10k-labels-idx1-ubyte.gz", 8)[:2000]
    x = jax.image.resize(jnp.float32(x), (2000, 32, 32, 1), "bilinear")
    prediction = jax.jit(lenet.LeNet().apply)(variables, x)
    assert isinstance(prediction, Prediction)
    assert np.mean(np.argmax(prediction.logits, axis=1) == y) > 0.98


def test_embed_resamples_linearly():
    """A ramp is stretched to a ramp, and held beyond the image's edge."""
    ramp = np.arange(64, dtype=np.float32)
    weights_ = mobile_face_net.interpolation(64, 112, -0.06, 1.10)
    np.testing.assert_allclose(weights_.sum(axis=1), 1, rtol=1e-6)
    stretched = weights_ @ ramp
    inside = (stretched > 0) & (stretched < 63)
    steps = np.diff(stretched[inside])
    np.testing.assert_allclose(steps, 64 * 1.16 / 112, rtol=1e-4)
    assert stretched[0] == 0 and stretched[-1] == 63
    same = mobile_face_net.interpolation(64, 64, 0, 1)
    np.testing.assert_array_equal(same, np.eye(64))


def test_embed_refuses_what_is_not_an_image():
    with pytest.raises(ValueError, match=r"\(2, 64, 64\)"):
        mobile_face_net.embed({}, jnp.zeros((2, 64, 64)))
    with pytest.raises(ValueError, match="MobileFaceNet takes"):
        weights.shapes(mobile_face_net.MobileFaceNet(), (64, 64, 3))
    with pytest.raises(ValueError, match=r"\(2, 64, 64\)"):
        mobile_face_net_ms1m.embed({}, jnp.zeros((2, 64, 64)))
    with pytest.raises(ValueError, match="MobileFaceNetMS1M takes"):
        weights.shapes(mobile_face_net_ms1m.MobileFaceNetMS1M(), (112, 96, 3))


def pairs_of_lfw(data_dir, number):
    """Two images `[number, 2, 64, 64, 1]` of each of `number` people, by seed."""
    with zipfile.ZipFile(data_dir / "lfw64.zip") as archive:
        files = defaultdict(list)
        for name in sorted(archive.namelist()):
            if name.endswith(".png"):
                files[name.split("/")[1]].append(name)
        people = sorted(person for person in files if len(files[person]) >= 2)
        # The first 160 of this order chose the frame of `embed`.
        chosen = np.random.default_rng(0).permutation(people)[160 : 160 + number]
        read = lambda name: np.asarray(Image.open(io.BytesIO(archive.read(name))))
        pairs = np.stack([[read(n) for n in files[person][:2]] for person in chosen])
    return pairs[..., None].astype(np.float32) / 255


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("network", "file", "expected"),
    [
        (mobile_face_net, "mobilefacenet.npz", 0.93),
        (mobile_face_net_ms1m, "mobilefacenet_ms1m.npz", 0.95),
    ],
)
def test_embed_verifies_people_of_lfw(data_dir, network, file, expected):
    """Same and different pairs are told apart, the threshold from the other half."""
    number = 120
    variables = network.load(data_dir / "weights" / file)
    pairs = pairs_of_lfw(data_dir, number)
    embed = jax.jit(network.embed)
    embeddings = jax.lax.map(
        lambda x: embed(variables, x), jnp.asarray(pairs.reshape(-1, 40, 64, 64, 1))
    ).reshape(number, 2, 128)
    embeddings /= np.linalg.norm(embeddings, axis=-1, keepdims=True)
    first, second = np.moveaxis(np.asarray(embeddings), 1, 0)
    same = (first * second).sum(axis=1)
    different = (first * np.roll(second, 1, axis=0)).sum(axis=1)

    def accuracy(threshold, people):
        accepted = (same[people] > threshold).mean()
        return (accepted + (different[people] <= threshold).mean()) / 2

    halves = slice(0, number // 2), slice(number // 2, number)
    accuracies = []
    for fitted, judged in (halves, halves[::-1]):
        candidates = np.concatenate([same[fitted], different[fitted]])
        best = max(candidates, key=lambda t: accuracy(t, fitted))
        accuracies.append(accuracy(best, judged))
    assert np.mean(accuracies) >= expected, accuracies
