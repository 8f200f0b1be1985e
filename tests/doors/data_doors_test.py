"""What models, metrics, folders and checkpoints cannot hold is refused by name."""

import io
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

from experiments.harness import checkpoint
from mijax.data import image_folder
from mijax.metrics import images
from mijax.models import trees, weights


def png(brightness=0):
    file = io.BytesIO()
    Image.new("L", (2, 2), brightness).save(file, "PNG")
    return file.getvalue()


class TestImages:
    @pytest.mark.parametrize("metric", [images.mse, images.psnr, images.ssim])
    @pytest.mark.parametrize("dtype", [bool, np.uint8])
    def test_other_than_numbers_in_0_1(self, metric, dtype):
        x = np.ones((1, 12, 12, 1), np.float32)
        for pair in [(x.astype(dtype), x), (x, x.astype(dtype))]:
            with pytest.raises(ValueError, match=rf"holds {np.dtype(dtype).name}"):
                metric(*pair)


class TestTrees:
    @pytest.mark.parametrize(
        "make", [DecisionTreeClassifier, lambda: RandomForestClassifier(3)]
    )
    def test_missing_values_go_where_they_went_in_training(self, make):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(80, 3)).astype(np.float32)
        labels = (x[:, 1] > 0).astype(int)
        x[rng.random(x.shape) < 0.3] = np.nan
        model = make().fit(x, labels)
        found = np.exp(trees.from_sklearn(model).predict(jnp.asarray(x)).logits)
        np.testing.assert_allclose(found, model.predict_proba(x), atol=1e-6)


class TestFolders:
    @pytest.mark.parametrize(
        "form", ["{}/{}.png", "{}\\{}.png", "./{}/{}.png", "faces\\{}\\{}.png"]
    )
    def test_zips_of_other_systems(self, tmp_path, form):
        path = tmp_path / "faces.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for person in "ab":
                for number in range(2):
                    archive.writestr(form.format(person, number), png())
        data = image_folder.load(path)
        assert data.names == ("a", "b")
        np.testing.assert_array_equal(data.labels, [0, 0, 1, 1])

    def folder(self, tmp_path):
        (tmp_path / "faces" / "a").mkdir(parents=True)
        (tmp_path / "faces" / "a" / "1.png").write_bytes(png())
        return tmp_path / "faces"

    def test_links_to_elsewhere_are_followed(self, tmp_path):
        folder = self.folder(tmp_path)
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "1.png").write_bytes(png())
        (folder / "b").symlink_to(tmp_path / "b")
        assert image_folder.load(folder).names == ("a", "b")

    @pytest.mark.parametrize("back", [".", "..", "../.."])
    def test_links_that_loop(self, tmp_path, back):
        folder = self.folder(tmp_path)
        (folder / "a" / "again").symlink_to(back)
        with pytest.raises(ValueError, match=r"a/again is a link back to"):
            image_folder.load(folder)

    @pytest.mark.parametrize("name", ["2.png", "b"])
    @pytest.mark.parametrize("itself", [True, False])
    def test_links_that_dangle(self, tmp_path, name, itself):
        folder = self.folder(tmp_path)
        (folder / "a" / name).symlink_to(name if itself else "nowhere")
        with pytest.raises(ValueError, match=rf"a/{name} is a link to .*nothing is"):
            image_folder.load(folder)


class TestCheckpoints:
    @pytest.mark.parametrize(
        ("tree", "message"),
        [
            ({}, "holds no arrays"),
            ({"key": jax.random.key(0)}, r"\['key'\] is a typed key: save .*key_data"),
            ({"w": jnp.zeros((0, 3))}, r"\['w'\] is empty, float32\[0, 3\]"),
        ],
    )
    def test_what_cannot_be_kept(self, tmp_path, tree, message):
        with pytest.raises(ValueError, match=message):
            checkpoint.save(tmp_path, 1, tree)
        assert checkpoint.latest(tmp_path) is None


class TestFlattenedMaps:
    """PyTorch flattens `[C, H, W]`; here a map is flattened as `[H, W, C]`."""

    LIKE = {  # noqa: RUF012
        "params": {
            "conv": {"kernel": np.zeros((1, 1, 3, 2), "f4")},
            "dense": {"kernel": np.zeros((2 * 3 * 2, 4), "f4")},
        }
    }

    def arrays(self):
        rng = np.random.default_rng(0)
        return {
            "conv.weight": rng.normal(size=(2, 3, 1, 1)).astype(np.float32),
            "dense.weight": rng.normal(size=(4, 12)).astype(np.float32),
        }

    def test_are_reordered(self):
        arrays = self.arrays()
        params = weights.from_torch(
            arrays, self.LIKE, lambda name: name, "a net", {"dense": (2, 3, 2)}
        )["params"]
        x = np.random.default_rng(1).normal(size=(5, 3, 2, 3)).astype(np.float32)
        kernel = arrays["conv.weight"][:, :, 0, 0]
        there = np.einsum("bihw,oi->bohw", x, kernel).reshape(5, -1)
        there = there @ arrays["dense.weight"].T
        here = np.einsum("bihw,io->bhwo", x, np.asarray(params["conv"]["kernel"])[0, 0])
        here = here.reshape(5, -1) @ np.asarray(params["dense"]["kernel"])
        np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(
        ("maps", "message"),
        [
            ({}, r"'dense' takes 12 inputs, .* Give maps=\{'dense': \(H, W, C\)\}"),
            (
                {"dense": (2, 2, 2)},
                r"'dense': \(2, 2, 2\), but the network has \(12, 4\)",
            ),
            ({"conv": (1, 1, 3)}, r"'conv'.*: name a dense layer"),
            ({"other": (1, 1, 3)}, r"'other'.*no such layer"),
        ],
    )
    def test_must_be_told(self, maps, message):
        with pytest.raises(ValueError, match=message):
            weights.from_torch(
                self.arrays(), self.LIKE, lambda name: name, "a net", maps
            )
