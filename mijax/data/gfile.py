"""The few functions of TensorFlow that TFDS calls while it prepares a data set.

TFDS reads a prepared data set without TensorFlow, but extracts archives and encodes
arrays with `tf.io.gfile` and `tf.image.encode_png`. On local files Python and PIL do
the same, so that data can be prepared where TensorFlow is not installed.
"""

import glob
import importlib.util
import io
import os
import sys
import types

import numpy as np
from PIL import Image


class _Encoded(bytes):
    """Bytes with the one method of an eager tensor that TFDS calls."""

    def numpy(self) -> bytes:
        return bytes(self)


def _encode_png(image: np.ndarray) -> _Encoded:
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(
        buffer, "PNG"
    )
    return _Encoded(buffer.getvalue())


def _stand_in() -> types.ModuleType:
    module = types.ModuleType("tensorflow", __doc__)
    functions = {
        "__version__": "2.1.0",  # the oldest that TFDS accepts
        "executing_eagerly": lambda: True,
        "compat": types.SimpleNamespace(as_text=os.fsdecode),
        "image": types.SimpleNamespace(encode_png=_encode_png),
        "io": types.SimpleNamespace(
            gfile=types.SimpleNamespace(
                GFile=open,
                exists=os.path.exists,
                glob=glob.glob,
                isdir=os.path.isdir,
                listdir=os.listdir,
            )
        ),
    }
    module.__dict__.update(functions)
    return module


def install() -> None:
    """Lets TFDS prepare data without TensorFlow; no effect where that is installed.

    TFDS imports TensorFlow lazily, once. That import finds the stand-in here, which
    is withdrawn at once: no other library takes it for TensorFlow.
    """
    if importlib.util.find_spec("tensorflow") is not None:
        return
    from tensorflow_datasets.core.utils import lazy_imports_utils

    sys.modules["tensorflow"] = _stand_in()
    try:
        _ = lazy_imports_utils.tensorflow.io
    finally:
        del sys.modules["tensorflow"]
