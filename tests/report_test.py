"""Reports hold exactly what the design fixes, and figures are exact to the pixel."""

import base64
import dataclasses
import errno
import html
import json
import math
import os
import re

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib import image

from experiments.harness import figures, report
from experiments.harness.results import Metric, Record, Results, metric
from mijax.metrics import intervals


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "figures" / "grid.png"
    figures.image_grid([("recovered", np.zeros((2, 8, 8, 1)))], path)
    return report.Picture(path, 'Recovered <faces> & "others"')


LINE = Record({"images": "gmi_logit"}, "top1", metric([1, 0, 1, 1], baseline=0.25))


@pytest.fixture
def write(tmp_path, picture):
    """Publishes a page in `tmp_path / "run"`, with changes of its fields."""
    workdir = tmp_path / "run"
    workdir.mkdir()

    def published(records=(LINE,), seconds=None, flags=None, **changes):
        results = Results(records)
        page = report.Page(
            title="Faces & <names>",
            verdict="Half of them.",
            lead=picture,
            caption="Methods",
            table=results.pivot(rows=("images",), columns=("metric",)),
            attacked="A classifier of 62 people.",
            knowledge="Its parameters.",
            baseline="nearest public image",
            n=4,
            results=results,
        )
        return report.publish(
            workdir,
            dataclasses.replace(page, **changes),
            experiment="gmi",
            flags=flags or {"seed": 0, "data_dir": None},
            seconds=seconds or {"compile": 1.5, "run": 20.25},
            command="python -m experiments gmi --seed=0",
        )

    return published


class TestMetric:
    def test_successes_get_wilson(self):
        line = metric([1, 0, 0, 0], baseline=[0.1, 0.2], perfect=1.0, paper=0.3)
        assert (line.value, line.low, line.high, line.n) == intervals.proportion(
            [1, 0, 0, 0]
        )
        assert line.baseline == pytest.approx(0.15) and line.paper == 0.3
        assert line.leakage == pytest.approx((0.25 - 0.15) / (1 - 0.15))
        assert line.leakage_low == pytest.approx((line.low - 0.15) / (1 - 0.15))
        assert line.leakage_high == pytest.approx((line.high - 0.15) / (1 - 0.15))

    def test_leakage_of_other_values_is_of_the_same_victims(self):
        baseline = np.random.default_rng(0).uniform(0.5, 1, 20)
        line = metric(baseline / 4, baseline=baseline, perfect=0.0)
        ends = line.leakage_low, line.leakage, line.leakage_high
        np.testing.assert_allclose(ends, 0.75)  # Of each victim, so of all.
        loose = metric(baseline[::-1] / 4, baseline=baseline, perfect=0.0)
        assert loose.leakage_low < 0.75 < loose.leakage_high

    def test_leakage_of_one_victim_has_no_interval(self):
        line = metric([0.2, 0.4], clusters=[0, 0], baseline=1.0, perfect=0.0)
        assert line.leakage == pytest.approx(0.7) and line.leakage_low is None

    def test_other_values_get_a_bootstrap(self):
        values = np.array([3.0, 1.0, 4.0, 1.5])
        line = metric(values, clusters=[0, 0, 1, 2])
        expected = intervals.mean(values, clusters=[0, 0, 1, 2])
        assert (line.value, line.low, line.high, line.n) == expected
        assert line.baseline is line.leakage is line.paper is None

    def test_one_example_has_no_interval(self):
        line = metric([20.5])
        assert (line.value, line.low, line.high, line.n) == (20.5, None, None, 1)

    def test_a_perfect_baseline_leaves_nothing_to_leak(self):
        assert metric([0, 1], baseline=1.0, perfect=1.0).leakage is None

    def test_failures_count_or_raise(self):
        with pytest.raises(ValueError, match="3 attempted, 2 finite"):
            metric([1.0, np.nan, 1.0])
        line = metric([1.0, np.nan, 1.0], failure=0.0)
        assert line.value == pytest.approx(2 / 3)
        assert (line.n, line.failed) == (3, 1)


class TestPublish:
    def test_result_holds_exactly_the_fields(self, tmp_path, write):
        line = Record({}, "psnr", Metric(np.float32(0.5), n=np.int64(4)))
        write([line], flags={"rate": jnp.float32(0.5), "workdir": tmp_path})
        result = json.loads((tmp_path / "run" / "result.json").read_text())
        assert list(result) == [
            *("experiment", "flags", "commit", "versions", "device", "seconds", "n"),
            "records",
        ]
        assert result["flags"] == {"rate": 0.5, "workdir": str(tmp_path)}
        assert result["seconds"] == {"compile": 1.5, "run": 20.25}
        assert {"python", "jax", "flax", "mijax"} <= set(result["versions"])
        assert result["commit"] is None or re.fullmatch(
            "[0-9a-f]{40}(-dirty)?", result["commit"]
        )
        assert "cpu" in result["device"] or " x " in result["device"]
        fields = ["value", "low", "high", "n", "baseline", "leakage", "paper"]
        fields += ["leakage_low", "leakage_high"]
        (entry,) = result["records"]
        assert entry == dict.fromkeys(fields) | {
            "labels": {},
            "metric": "psnr",
            "value": 0.5,
            "n": 4,
        }
        assert sorted(os.listdir(tmp_path / "run")) == ["report.html", "result.json"]

    def test_page_is_self_contained(self, write, picture):
        page = write(
            pictures=[picture],
            tables=[report.Table("Judges", ["judge", "n"], [["<E>", 3], ["M", None]])],
            differences=["Ours is grey & small."],
            caveats=["One judge."],
        ).read_text()
        assert "Faces &amp; &lt;names&gt;" in page and "<names>" not in page
        assert html.escape(picture.caption) in page and "<faces>" not in page
        assert "&lt;E&gt;" in page and "<E>" not in page
        assert not re.search(r"(src|href)=\"(?!data:)", page) and "url(" not in page
        embedded = re.search(r"base64,([^\"]+)", page)
        assert embedded
        with open(picture.path, "rb") as file:
            assert base64.b64decode(embedded[1]) == file.read()
        for text in ("Ours is grey &amp; small.", "One judge.", "nearest public image"):
            assert text in page
        assert "python -m experiments gmi --seed=0" in page

    def test_decimals_line_up(self, write):
        rows = [["a", 0.5], ["b", 12.25], ["c", None]]
        page = write(tables=[report.Table("T", ["x", "y"], rows)]).read_text()
        assert ">0.50<" in page and ">12.25<" in page

    def test_small_numbers_keep_their_digits(self, write):
        line = Record({}, "mse", Metric(0.000123456, 1e-12, 2e-4))
        page = write([line]).read_text()
        assert "0.000123" in page and "1.0e−12" in page

    @pytest.mark.parametrize("number", [math.nan, math.inf])
    def test_numbers_that_are_not_finite(self, tmp_path, write, number):
        with pytest.raises(ValueError, match=r"gmi\.rate"):
            write(flags={"gmi.rate": number})
        with pytest.raises(ValueError, match="finite times"):
            write(seconds={"compile": number, "run": 0})
        with pytest.raises(ValueError, match="give compile and run"):
            write(seconds={"run": 0})
        assert not os.listdir(tmp_path / "run")

    def test_a_full_disk_keeps_the_former_report(self, tmp_path, monkeypatch, write):
        write()
        before = (tmp_path / "run" / "report.html").read_text()

        def full(_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"No space left.*report.html is not written"):
            write(title="Another")
        assert (tmp_path / "run" / "report.html").read_text() == before
        assert sorted(os.listdir(tmp_path / "run")) == ["report.html", "result.json"]

    def test_a_text_is_no_png(self, tmp_path, write):
        (tmp_path / "a.png").write_text("not a picture")
        with pytest.raises(ValueError, match="is not a PNG"):
            write(pictures=[report.Picture(tmp_path / "a.png", "")])


class TestWorkdir:
    def test_made_with_parents(self, tmp_path):
        path = report.prepare_workdir(tmp_path / "a" / "b")
        assert os.listdir(path) == ["figures"]
        assert report.prepare_workdir(path) == path

    def test_not_writable(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(ValueError, match=r"--workdir=.*cannot be written"):
            report.prepare_workdir(tmp_path / "file" / "below")

    def test_full_disk(self, tmp_path, monkeypatch):
        with pytest.raises(ValueError, match="MiB left and the run needs"):
            report.prepare_workdir(tmp_path, free_mib=2**40)

        def full(_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(ValueError, match="No space left"):
            report.prepare_workdir(tmp_path)
        assert os.listdir(tmp_path) == ["figures"]


class TestFigures:
    def test_grid_is_exact(self, tmp_path):
        rng = np.random.default_rng(0)
        faces = rng.integers(0, 256, (3, 32, 32, 3)) / 255
        figures.image_grid([("private", faces)], tmp_path / "grid.png", tile=64)
        pixels = image.imread(tmp_path / "grid.png")[..., :3]
        tiles = faces.repeat(2, axis=1).repeat(2, axis=2)
        top = [
            row
            for row in range(len(pixels) - 63)
            if np.allclose(pixels[row : row + 64, -68:-4], tiles[2], atol=1 / 500)
        ]
        assert len(top) == 1
        found = pixels[top[0] : top[0] + 64, -136:-72]
        np.testing.assert_allclose(found, tiles[1], atol=1 / 500)

    def test_grid_is_never_wider_than_the_page(self, tmp_path):
        path = tmp_path / "grid.png"
        rows = [("private person", np.zeros((62, 64, 64, 1)))]
        figures.image_grid(rows, path, [f"person {i}" for i in range(62)])
        height, width = image.imread(path).shape[:2]
        assert 900 < width <= 1160 and height > 8 * 128

    def test_grid_shows_what_is_lost(self, tmp_path):
        lost = np.full((1, 8, 8, 1), np.nan)
        figures.image_grid([("lost", lost)], tmp_path / "grid.png")
        pixels = image.imread(tmp_path / "grid.png")[..., :3]
        assert (pixels == (1, 0, 1)).all(axis=-1).sum() == 96 * 96

    def test_bad_grids(self, tmp_path):
        path, faces = tmp_path / "grid.png", np.zeros((2, 8, 8, 1))
        with pytest.raises(ValueError, match=r"\[2, 1\]"):
            figures.image_grid([("a", faces), ("b", faces[:1])], path)
        with pytest.raises(ValueError, match="3 column titles for 2"):
            figures.image_grid([("a", faces)], path, ["1", "2", "3"])
        with pytest.raises(ValueError, match="C of 1 or 3"):
            figures.image_grid([("a", faces[..., 0])], path)
        with pytest.raises(ValueError, match="at least one"):
            figures.image_grid([("a", faces[:0])], path)

    def test_charts_are_drawn_the_same_twice(self, tmp_path):
        trace = np.random.default_rng(0).random((5, 20))
        sweep = np.array([[1, 0.9, 1], [0.5, 0.4, 0.6], [0.1, 0, 0.2]])

        def draw(folder):
            figures.curves(
                {"logit": trace, "margin": trace[0]}, folder / "a.png", log_y=True
            )
            figures.bars(
                ["gmi", "mean"],
                [0.4, 0.1],
                folder / "b.png",
                low=[0.3, 0],
                high=[0.5, 0.2],
                baseline=0.1,
            )
            figures.lines(
                [0, 0.01, 0.1],
                {"naive": sweep[:, 0], "adaptive": sweep},
                folder / "c.png",
                xlabel="r",
                ylabel="identified",
                log_x=True,
                baseline=0.1,
            )
            return [path.read_bytes() for path in sorted(folder.glob("*.png"))]

        first = draw(tmp_path / "1")
        assert len(first) == 3 and first == draw(tmp_path / "2")

    def test_a_line_may_have_no_interval(self, tmp_path):
        values = np.array([(1.0, None, None), (2.0, 1.5, 2.5)])
        path = tmp_path / "a.png"
        figures.lines([1, 2], {"a": values}, path, xlabel="", ylabel="")
        assert path.exists()
        with pytest.raises(ValueError, match="finite"):
            values = values.copy()
            values[0, 0] = None
            figures.lines([1, 2], {"a": values}, path, xlabel="", ylabel="")

    def test_bad_charts(self, tmp_path):
        path = tmp_path / "a.png"
        with pytest.raises(ValueError, match="finite"):
            figures.bars(["a"], [np.nan], path)
        with pytest.raises(ValueError, match="a finite value at each step"):
            figures.curves({"a": [1.0, np.nan]}, path)
        with pytest.raises(ValueError, match="must increase"):
            figures.lines([1, 0], {"a": [1, 2]}, path, xlabel="", ylabel="")
        with pytest.raises(ValueError, match="above 0"):
            figures.lines(
                [-1, 1], {"a": [1, 2]}, path, xlabel="", ylabel="", log_x=True
            )
        with pytest.raises(ValueError, match="has shape"):
            figures.lines([0, 1], {"a": [1]}, path, xlabel="", ylabel="")
        with pytest.raises(ValueError, match="told apart"):
            figures.curves({str(i): [1.0] for i in range(7)}, path)
        assert not path.exists()
