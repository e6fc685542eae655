"""Handoff: export and promotion, from outside. Runs are made over the wire; what comes out is checked with the
onnx package and evaluated by tools/run_onnx.py (and onnxruntime where it can be imported) against a float64
forward pass written here from the configuration alone."""
import hashlib
import importlib.util
import json
import math
import pathlib
import re
import struct
import subprocess
import threading

import numpy as np
import onnx
import pytest

from sweeps import needs, sweep, write
from wire import WireError, endpoint, ulid

TOOLS = pathlib.Path(__file__).resolve().parents[2] / "tools"
spec = importlib.util.spec_from_file_location("run_onnx", TOOLS / "run_onnx.py")
run_onnx = importlib.util.module_from_spec(spec)
spec.loader.exec_module(run_onnx)

MLP = [{"dense": {"out": 32}}, "gelu", {"dropout": 0.5}, {"dense": {"out": 24, "bias": False}}, "batch_norm",
       "tanh", {"dense": {"out": 10}}]
CNN = [{"conv2d": {"out": 6, "kernel": 3, "padding": "same"}}, {"batch_norm": {"eps": 1e-3}}, "relu",
       {"max_pool": 2}, {"conv2d": {"out": 8, "kernel": [3, 2], "stride": [2, 1], "padding": 1, "bias": False}},
       "batch_norm", "gelu", {"avg_pool": {"kernel": 3, "stride": 2}}, {"dropout": {"rate": 0.2}}, "flatten",
       {"dense": {"out": 16}}, "sigmoid", {"dense": {"out": 10}}]


# ---- a forward pass in float64, from the configuration ----

def words(layer):
    if isinstance(layer, str):
        return layer, {}
    (kind, keys), = layer.items()
    if not isinstance(keys, dict):
        keys = {"kernel" if "pool" in kind else "rate": keys}
    return kind, keys


def pair(v):
    return list(v) if isinstance(v, list) else [v, v]


def slide(x, kernel, stride, padding, act):
    n, c, h, w = x.shape
    x = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    oh, ow = ((x.shape[2 + i] - kernel[i]) // stride[i] + 1 for i in (0, 1))
    rows = []
    for i in range(oh):
        for k in range(ow):
            rows.append(act(x[:, :, i * stride[0]:i * stride[0] + kernel[0],
                              k * stride[1]:k * stride[1] + kernel[1]]))
    return np.stack(rows, axis=-1).reshape(n, -1, oh, ow)


def parameters(model, shape, rng):
    """Random tensors with the documented names."""
    tensors, shape = {}, list(shape)
    for i, layer in enumerate(model):
        kind, keys = words(layer)
        if kind == "dense":
            fan = int(np.prod(shape))
            tensors[f"{i}.weight"] = rng.normal(0, 1 / math.sqrt(fan), (keys["out"], fan))
            if keys.get("bias", True):
                tensors[f"{i}.bias"] = rng.normal(0, 0.3, keys["out"])
            shape = [keys["out"]]
        elif kind == "conv2d":
            kernel = pair(keys["kernel"])
            tensors[f"{i}.weight"] = rng.normal(0, 0.3, (keys["out"], shape[0], *kernel))
            if keys.get("bias", True):
                tensors[f"{i}.bias"] = rng.normal(0, 0.3, keys["out"])
        elif kind == "batch_norm":
            tensors[f"{i}.weight"] = rng.normal(1, 0.2, shape[0])
            tensors[f"{i}.bias"] = rng.normal(0, 0.2, shape[0])
            tensors[f"{i}.running_mean"] = rng.normal(0, 0.2, shape[0])
            tensors[f"{i}.running_var"] = rng.uniform(0.3, 2, shape[0])
        if kind not in ("dense", "batch_norm"):
            shape = list(forward([layer], np.zeros((1, *shape)), tensors, i).shape[1:])
    return {name: t.astype(np.float32) for name, t in tensors.items()}


def forward(model, x, tensors, first=0):
    get = {k: np.asarray(v, np.float64) for k, v in tensors.items()}
    for i, layer in enumerate(model, first):
        kind, keys = words(layer)
        if kind == "dense":
            x = x.reshape(len(x), -1) @ get[f"{i}.weight"].T + get.get(f"{i}.bias", 0)
        elif kind == "conv2d":
            weight, kernel = get[f"{i}.weight"], pair(keys["kernel"])
            padding = keys.get("padding", 0)
            padding = [k // 2 for k in kernel] if padding == "same" else pair(padding)
            x = slide(x, kernel, pair(keys.get("stride", 1)), padding,
                      lambda v: np.einsum("nchw,ochw->no", v, weight) + get.get(f"{i}.bias", 0))
        elif kind in ("max_pool", "avg_pool"):
            kernel = pair(keys["kernel"])
            x = slide(x, kernel, pair(keys.get("stride", kernel)), [0, 0],
                      lambda v: v.max((2, 3)) if kind == "max_pool" else v.mean((2, 3)))
        elif kind == "batch_norm":
            s = [1, -1] + [1] * (x.ndim - 2)
            x = (x - get[f"{i}.running_mean"].reshape(s)) / np.sqrt(
                get[f"{i}.running_var"].reshape(s) + keys.get("eps", 1e-5))
            x = x * get[f"{i}.weight"].reshape(s) + get[f"{i}.bias"].reshape(s)
        elif kind == "gelu":
            x = x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
        elif kind == "flatten":
            x = x.reshape(len(x), -1)
        elif kind != "dropout":
            x = {"relu": lambda v: np.maximum(v, 0), "tanh": np.tanh,
                 "sigmoid": lambda v: 1 / (1 + np.exp(-v))}[kind](x)
    return x


def transform(x, transforms):
    x = x.astype(np.float64)
    for t in transforms:
        (kind, v), = t.items()
        if kind == "scale":
            x = x * v
        elif kind == "shift":
            x = x + v
        else:
            x = (x - np.reshape(v["mean"], (1, *np.shape(v["mean"]))).reshape(
                (1, *x.shape[1:]) if np.ndim(v["mean"]) else ())) / np.reshape(
                    v["std"], (1, *x.shape[1:]) if np.ndim(v["std"]) else ())
    return x


# ---- runs made over the wire ----

def safetensors(tensors):
    header, data = {}, b""
    for name, t in tensors.items():
        raw = np.ascontiguousarray(t, "<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(t.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 8) % 64)
    return struct.pack("<Q", len(text)) + text + data


class Made:
    """A finished run with random weights."""

    def __init__(self, wire, model, shape, transforms=(), loss="cross_entropy", state="completed", seed=1,
                 drop=(), run=None, config=None, data=None, summary=None, files=None, sweep=False, resumed_from=None):
        self.model, self.shape, self.transforms, self.run = model, shape, list(transforms), run or ulid()
        self.tensors = parameters(model, shape, np.random.default_rng(seed))
        for name in drop:
            del self.tensors[name]
        self.weights = safetensors(self.tensors)
        more = {"sweep": ulid(), "trial": 1, "attempt": 1} if sweep is True else sweep or {}
        if sweep is True:
            wire.write("sweep.create", sweep=more["sweep"], name="export", config={})
        wire.write("run.create", run=self.run, experiment="export", **more,
                   config={"model": model, "training": {"loss": loss}} | (config or {}))
        for path, content in (files or {}).items():
            wire.put(self.run, path, content)
        wire.put(self.run, "model.safetensors", self.weights)
        wire.write("run.update", run=self.run, tags={"replay": "exact"},
                   manifest={"data": {"shape": list(shape), "classes": 10, "transforms": self.transforms,
                                      "digest": "ab" * 32} | (data or {})} | ({"resumed_from": resumed_from} if resumed_from else {}),
                   summary={"metrics": {"val_error": 0.125}, "weights_digest": "cd" * 32} | (summary or {}))
        if state != "running":
            wire.write("run.update", run=self.run, state=state)

    def expected(self, x):
        return forward(self.model, transform(x, self.transforms), self.tensors)


@pytest.fixture
def export(bin_dir, home, tracker):
    """export(arguments…) runs trireme-export; code=… is the exit code expected."""

    def call(*args, code=0):
        done = subprocess.run([str(bin_dir / "trireme-export"), *map(str, args), "--tracker",
                               endpoint(home, "tracker"), "--json"], capture_output=True, text=True, timeout=240)
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout) if code == 0 else done.stderr

    return call


def check_outputs(path, made, rng, out="logits"):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 8 and model.opset_import[0].version == 17
    first = model.graph.input[0]
    assert first.name == "input" and first.type.tensor_type.shape.dim[0].dim_param == "N"
    engines = [run_onnx.Graph(model).run]
    try:
        import onnxruntime  # noqa: F401
        engines.append(run_onnx.open_model(str(path))[1])
    except ImportError:
        pass
    for n in (1, 7):
        x = rng.integers(0, 256, (n, *made.shape)).astype(np.float32)
        want = made.expected(x)
        for engine in engines:
            got = engine(x)
            assert np.abs(got[out] - want).max() < 1e-5 * max(1, np.abs(want).max())
            if out == "logits":
                e = np.exp(want - want.max(1, keepdims=True))
                assert np.abs(got["probabilities"] - e / e.sum(1, keepdims=True)).max() < 1e-5
    return model


def test_mlp_as_onnx(wire, export, tmp_path):
    rng = np.random.default_rng(5)
    fitted = {"mean": rng.uniform(0, 1, 48).tolist(), "std": rng.uniform(0.5, 2, 48).tolist()}
    made = Made(wire, MLP, (1, 6, 8), [{"scale": 1 / 255}, {"normalize": fitted}, {"shift": -0.25}])
    told = export(made.run, "--format", "onnx", "-o", tmp_path / "out")
    path = pathlib.Path(told["path"])
    assert path == tmp_path / "out" / "model.onnx"
    assert told["digest"] == hashlib.sha256(path.read_bytes()).hexdigest()
    model = check_outputs(path, made, rng)
    assert not {n.op_type for n in model.graph.node} & {"Dropout", "Gelu"}
    assert {p.key: p.value for p in model.metadata_props}["trireme.run"] == made.run
    papers = json.loads((tmp_path / "out" / "model.json").read_text())
    assert papers["signature"]["inputs"] == [{"name": "input", "dtype": "float32", "shape": ["N", 1, 6, 8]}]
    export(made.run, "-o", tmp_path / "again")
    assert (tmp_path / "again" / "model.onnx").read_bytes() == path.read_bytes()


def test_cnn_with_batch_norm_as_onnx(wire, export, tmp_path):
    made = Made(wire, CNN, (3, 14, 12), [{"scale": 1 / 255}, {"normalize": {"mean": 0.4, "std": 0.3}}])
    export(made.run[:20], "--format", "onnx", "-o", tmp_path, "--name", "cnn")
    check_outputs(tmp_path / "cnn.onnx", made, np.random.default_rng(6))


def test_regression_as_onnx(wire, export, tmp_path):
    made = Made(wire, [{"dense": {"out": 5}}, "sigmoid", {"dense": {"out": 3}}], (4,),
                [{"scale": 0.01}], loss="mse")
    export(made.run, "-o", tmp_path)
    model = check_outputs(tmp_path / "model.onnx", made, np.random.default_rng(7), out="prediction")
    assert [o.name for o in model.graph.output] == ["prediction"]


def test_a_model_that_ends_in_dropout(wire, export, tmp_path):
    made = Made(wire, [{"dense": {"out": 10}}, {"dropout": 0.1}], (6,))
    export(made.run, "-o", tmp_path)
    check_outputs(tmp_path / "model.onnx", made, np.random.default_rng(8))


def test_safetensors_are_the_runs_own_bytes(wire, export, tmp_path):
    made = Made(wire, MLP, (48,))
    told = export(made.run, "--format", "safetensors", "-o", tmp_path)
    assert pathlib.Path(told["path"]).read_bytes() == made.weights


def test_what_cannot_be_exported_is_said(wire, export, tmp_path):
    made = Made(wire, MLP, (48,), drop=["3.weight"])
    assert "3.weight" in export(made.run, "-o", tmp_path, code=2)
    other = Made(wire, [{"dense": {"out": 10}}], (7,))
    wire.write("run.update", run=other.run, manifest={"data": {"shape": [8]}})
    assert "0.weight" in export(other.run, "-o", tmp_path, code=2)
    assert "neither a run nor a model" in export("nothing", "-o", tmp_path, code=4)
    export("nothing@live", "-o", tmp_path, code=4)
    assert "--format" in export(made.run, "--format", "pickle", "-o", tmp_path, code=2)
    assert "-o DIR" in export(made.run, code=2)
    assert "usage" in export("promote", made.run, code=2)
    bare = ulid()
    wire.write("run.create", run=bare, experiment="export", config={})
    assert "model" in export(bare, "-o", tmp_path, code=2)
    wire.write("run.create", run=(none := ulid()), experiment="export", config={"model": MLP})
    wire.write("run.update", run=none, manifest={"data": {"shape": [48]}})
    assert "model.safetensors" in export(none, "-o", tmp_path, code=4)
    wire.put(none, "model.safetensors", b"no tensors at all")
    export(none, "-o", tmp_path, code=6)
    assert not list(tmp_path.iterdir())
    assert "after the ':'" in export(f"{made.run}:first", "-o", tmp_path, code=2)


def test_standard_output_that_fails(bin_dir, home, wire, tmp_path):
    made = Made(wire, MLP, (48,))
    for args in (["-o", tmp_path], ["-o", tmp_path, "--json"], ["--help"]):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([str(bin_dir / "trireme-export"), made.run, *map(str, args)], stdout=full,
                                  stderr=subprocess.PIPE, text=True, timeout=240)
        assert done.returncode == 7 and "standard output" in done.stderr, (args, done)


def test_refusals_as_json(bin_dir, home, wire, tmp_path):
    for args, code, name in ((["nothing", "-o", tmp_path], 4, "not_found"), (["a", "b"], 2, "invalid"),
                             (["promote", "nothing", "../m"], 2, "invalid"), (["\033[31m", "-o", tmp_path], 4, "not_found")):
        done = subprocess.run([str(bin_dir / "trireme-export"), *map(str, args), "--json"], capture_output=True,
                              text=True, timeout=60)
        error = json.loads(done.stdout)["error"]
        assert (done.returncode, error["code"]) == (code, name) and error["message"], done
        assert done.stderr.startswith("trireme-export: ") and "\033" not in done.stderr


def test_promotion_has_papers_and_an_audit_record(wire, export, tmp_path):
    made = Made(wire, MLP, (48,), [{"scale": 0.5}])
    told = export("promote", made.run, "fashion@live", "--actor", "ada", "--comment", "best so far")
    assert (told["name"], told["version"], told["alias"]) == ("fashion", 1, "live")
    model = wire.request("model.get", name="fashion", alias="live")["model"]
    card = model["card"]
    assert model["run"] == made.run and model["actor"] == "ada"
    assert card["weights"]["digest"] == hashlib.sha256(made.weights).hexdigest()
    stored = wire.get(run=made.run, path=card["onnx"]["path"])
    assert card["onnx"]["digest"] == hashlib.sha256(stored).hexdigest() == told["onnx_digest"]
    assert card["metrics"] == {"val_error": 0.125} and card["data_digest"] == "ab" * 32
    assert card["replay"] == "exact" and card["transforms"] == [{"scale": 0.5}]
    assert told["weights_digest"] == "cd" * 32 and told["file_digest"] == card["weights"]["digest"]
    records = wire.request("audit.list")
    assert records["head"] == told["audit"] == records["records"][-1]["digest"]
    assert records["records"][-1]["actor"] == "ada"

    again = export("promote", made.run, "fashion")
    assert again["version"] == 2
    assert wire.request("model.get", name="fashion", alias="live")["model"]["version"] == 1
    for what, version in (("fashion@live", 1), ("fashion@2", 2), ("fashion", 2)):
        out = tmp_path / what
        assert export(what, "-o", out)["version"] == version
        assert (out / "fashion.onnx").read_bytes() == stored
        assert json.loads((out / "fashion.json").read_text()) == card
    check_outputs(tmp_path / "fashion" / "fashion.onnx", made, np.random.default_rng(9))


@pytest.mark.parametrize("state", ["running", "failed", "cancelled"])
def test_only_finished_runs_are_promoted(wire, export, state):
    made = Made(wire, MLP, (48,), state=state)
    assert f"is {state}" in export("promote", made.run, "fashion@live", code=5)
    with pytest.raises(WireError):
        wire.request("model.get", name="fashion")
    wire.write("run.create", run=(bare := ulid()), experiment="export", config={"model": MLP})
    if state != "running":
        wire.write("run.update", run=bare, state=state)
    assert f"is {state}" in export("promote", bare, "fashion@live", code=5), "whatever it lacks"


def test_a_stopped_run_can_be_promoted(wire, export):
    made = Made(wire, MLP, (48,), state="stopped")
    assert export("promote", made.run, "early")["version"] == 1


def test_weights_that_were_replaced_are_not_exported(wire, export, tmp_path):
    """Promotion seals the run; a version whose card names other weights (an older store's) is refused."""
    made = Made(wire, MLP, (48,))
    export("promote", made.run, "fashion@live")
    others = safetensors(parameters(MLP, (48,), np.random.default_rng(77)))
    with pytest.raises(WireError) as caught:
        wire.put(made.run, "model.safetensors", others)
    assert caught.value.code == "conflict"
    card = wire.request("model.get", name="fashion")["model"]["card"]
    card["weights"]["digest"] = hashlib.sha256(others).hexdigest()
    wire.write("model.promote", name="fashion", run=made.run, alias="live", actor="me", card=card)
    assert "promoted" in export("fashion@live", "-o", tmp_path, code=5)


# ---- papers that a stranger can use ----

NET = [{"dense": {"out": 8}}, "relu", {"dense": {"out": 3}}]
COLUMNS = [{"name": "age", "kind": "number", "first": 0, "count": 1},
           {"name": "colour", "kind": "words", "first": 1, "count": 3, "words": ["blue", "red", 'say "hi"\\']},
           {"name": "height", "kind": "number", "first": 4, "count": 1}]
CLASSES = {"name": "pet", "kind": "classes", "classes": ["cat", "dog", "fish"]}


def check_example(path, made, onnx_file):
    """The example's answer, against a forward pass of ours and against the ONNX file."""
    example = json.loads(path.read_text())
    asked = example["request"]["inputs"][0]
    x = np.array(asked["data"], {"FP32": np.float32, "FP64": np.float64}[asked["datatype"]]).reshape(asked["shape"])
    assert asked["name"] == "input" and x.shape == (1, *made.shape)
    want, close = made.expected(x)[0], example["tolerance"]
    got = run_onnx.Graph(onnx.load(onnx_file)).run(x)
    answer = example["answer"]
    if "prediction" in answer:
        assert np.abs(answer["prediction"] - want).max() < 1e-9
        assert np.abs(answer["prediction"] - got["prediction"][0]).max() < close
        return example
    assert np.abs(answer["logits"] - want).max() < 1e-9 * max(1, np.abs(want).max())
    assert np.abs(answer["logits"] - got["logits"][0]).max() < close * max(1, np.abs(want).max())
    assert np.abs(answer["probabilities"] - got["probabilities"][0]).max() < close
    assert answer["class"] == int(want.argmax())
    return example


def test_columns_and_an_example_row(wire, export, tmp_path):
    fitted = {"mean": [40, 0.2, 0.5, 0.3, 1.7], "std": [10, 0.4, 0.5, 0.45, 0.1]}
    made = Made(wire, NET, (5,), [{"normalize": fitted}], data={"inputs": COLUMNS, "outputs": CLASSES})
    told = export(made.run, "-o", tmp_path / "out")
    card = json.loads((tmp_path / "out" / "model.json").read_text())
    assert card["inputs"] == COLUMNS and card["outputs"] == CLASSES
    props = {p.key: p.value for p in onnx.load(told["path"]).metadata_props}
    assert json.loads(props["trireme.inputs"]) == COLUMNS and json.loads(props["trireme.outputs"]) == CLASSES
    assert told["example"] == str(tmp_path / "out" / "model.example.json")
    example = check_example(pathlib.Path(told["example"]), made, told["path"])
    assert example["row"] == {"age": 40.0, "colour": "blue", "height": float(np.float32(1.7))}
    assert example["answer"]["name"] == CLASSES["classes"][example["answer"]["class"]]

    shown = [c | {"example": e} for c, e in zip(COLUMNS, (33.5, "red", 1.5))]
    other = Made(wire, NET, (5,), [{"normalize": fitted}], data={"inputs": shown, "outputs": CLASSES})
    told = export(other.run, "-o", tmp_path / "first")
    first = check_example(pathlib.Path(told["example"]), other, told["path"])
    assert first["row"] == {"age": 33.5, "colour": "red", "height": 1.5}
    assert first["request"]["inputs"][0]["data"] == [33.5, 0, 1, 0, 1.5]

    export(made.run, "--format", "triton", "-o", tmp_path / "repository", "--name", "m")
    config = (tmp_path / "repository" / "m" / "config.pbtxt").read_text()
    said = {k: json.loads(re.sub(r"\\(.)", r"\1", v)) for k, v in re.findall(
        r'key: "trireme\.(inputs|outputs|example)" value: \{ string_value: "((?:[^"\\]|\\.)*)" \}', config)}
    assert said == {"inputs": COLUMNS, "outputs": CLASSES, "example": example}


def test_values_that_float32_would_blur(wire, export, tmp_path):
    """Seconds since 1970, a day apart: the input is float64, and only for those who were trained so."""
    fitted = {"mean": [1.7e9, 0.5], "std": [86400.0, 0.5]}
    for language, dtype in ((3, "float64"), (2, "float32")):
        made = Made(wire, [{"dense": {"out": 3}}], (2,), [{"normalize": fitted}], loss="mse",
                    config={"language": language})
        told, out = export(made.run, "-o", tmp_path), tmp_path / "repository"
        card = json.loads((tmp_path / "model.json").read_text())
        assert card["signature"]["inputs"][0]["dtype"] == dtype
        model = onnx.load(told["path"])
        onnx.checker.check_model(model, full_check=True)
        x = np.array([[1.7e9 + 12345.0, 0.25], [1.7e9 - 77.0, 1.0]])
        off = np.abs(run_onnx.Graph(model).run(x)["prediction"] - forward(made.model, (x - fitted["mean"]) / fitted["std"],
                                                                          made.tensors)).max()
        assert off < 1e-5 if language == 3 else off > 1e-5, off
        if language == 3:
            example = check_example(tmp_path / "model.example.json", made, told["path"])
            assert example["request"]["inputs"][0]["datatype"] == "FP64"
            assert example["request"]["inputs"][0]["data"] == [1.7e9, 0.5]
        export(made.run, "--format", "triton", "-o", out, "--name", dtype)
        config = (out / dtype / "config.pbtxt").read_text()
        assert re.findall("TYPE_FP..", config) == ["TYPE_FP" + dtype[-2:], "TYPE_FP32"]


@pytest.mark.parametrize("model, shape, loss", [(CNN, (3, 14, 12), "cross_entropy"), (MLP, (1, 6, 8), "cross_entropy"),
                                                ([{"dense": {"out": 5}}, "sigmoid", {"dense": {"out": 3}}], (4,), "mse")])
def test_the_example_is_the_models_answer(wire, export, tmp_path, model, shape, loss):
    pixels = [{"name": "pixels", "kind": "pixels", "first": 0, "count": int(np.prod(shape))}]
    made = Made(wire, model, shape, [{"scale": 1 / 255}, {"normalize": {"mean": 0.4, "std": 0.3}}], loss,
                data={"inputs": pixels})
    told = export(made.run, "-o", tmp_path)
    data = check_example(tmp_path / "model.example.json", made, told["path"])["request"]["inputs"][0]["data"]
    assert len(set(data)) > 3


def test_a_run_that_names_no_columns(wire, export, tmp_path):
    made = Made(wire, NET, (5,))
    told = export(made.run, "-o", tmp_path)
    card = json.loads((tmp_path / "model.json").read_text())
    assert card["inputs"] == card["outputs"] == "unknown"
    assert "unknown" in check_example(tmp_path / "model.example.json", made, told["path"])["row"]
    old = {k: v for k, v in card.items() if k not in ("inputs", "outputs", "which", "step", "onnx")}
    wire.write("model.promote", name="old", run=made.run, actor="me", card=old)
    export("old", "-o", tmp_path)
    assert json.loads((tmp_path / "old.json").read_text()) == old | {"inputs": "unknown", "outputs": "unknown"}


def test_columns_of_a_real_run(lab, tmp_path):
    """From a CSV to an input row that a stranger builds from the papers alone."""
    needs("trireme-coordinator", "trireme-worker", "trireme-export")
    words, start = ["red", "blue", "dark green"], 1_600_000_000
    rows = [(["no", "yes"][i % 2], words[i % 3], start + 3600 * i, "skip", i % 2 * 4 + i % 5) for i in range(60)]
    (tmp_path / "d.csv").write_text("bought,colour,seen,note,size\n" + "".join(
        ",".join(map(str, r)) + "\n" for r in rows))
    config = sweep(tmp_path, name="papers", steps=60, model=[{"dense": {"out": 8}}, "relu", {"dense": {"out": 2}}],
                   batch=8, shards=2)
    config["data"] |= {"transforms": [{"normalize": "fit"}], "train": {
        "format": "csv", "file": "d.csv", "header": True, "label": "bought", "task": "classify", "exclude": ["note"]}}
    result = lab.run("run", write(tmp_path, config), "--json").json
    run = result["trials"][0]["run"]
    out = tmp_path / "out"
    told = lab.run("export", run, "-o", out, "--json").json
    card, model = json.loads((out / "model.json").read_text()), onnx.load(told["path"])
    example = json.loads((out / "model.example.json").read_text())
    assert {c["name"]: c["kind"] for c in card["inputs"]} == {"colour": "words", "seen": "number", "size": "number"}
    assert card["outputs"]["name"] == "bought" and card["outputs"]["classes"] == ["no", "yes"]
    assert card["signature"]["inputs"][0]["dtype"] == "float64", "seconds since 1970"

    def row(values):
        x = np.zeros((1, card["signature"]["inputs"][0]["shape"][1]))
        for c in card["inputs"]:
            if c["kind"] == "words":
                x[0, c["first"] + c["words"].index(values[c["name"]])] = 1
            else:
                x[0, c["first"]] = values[c["name"]]
        return x

    x = row(example["row"])
    assert x.tolist() == [example["request"]["inputs"][0]["data"]]
    got = run_onnx.Graph(model).run(x)
    assert np.abs(got["logits"][0] - example["answer"]["logits"]).max() < example["tolerance"] * 10
    assert example["answer"]["name"] == card["outputs"]["classes"][int(got["logits"].argmax())]
    right = sum(["no", "yes"][int(run_onnx.Graph(model).run(row(dict(zip(("colour", "seen", "size"), (r[1], r[2], r[4])))))[
        "logits"].argmax())] == r[0] for r in rows)
    assert right > 50, "whoever builds rows from the card gets the model's answers"


# ---- Triton ----

def pinned(config):
    return int(re.search(r"versions: \[ (\d+) \]", config).group(1))


def test_triton_layout(wire, export, tmp_path):
    made, repository = Made(wire, CNN, (3, 14, 12)), tmp_path / "models"
    export("promote", made.run, "fashion@live")
    told = export("fashion@live", "--format", "triton", "-o", repository)
    assert told["version"] == 1
    assert sorted(p.name for p in (repository / "fashion").iterdir()) == ["1", "config.pbtxt"]
    assert [p.name for p in (repository / "fashion" / "1").iterdir()] == ["model.onnx"]
    assert [p.name for p in repository.iterdir()] == ["fashion"]
    config = (repository / "fashion" / "config.pbtxt").read_text()
    assert 'name: "fashion"' in config and "dims: [ 3, 14, 12 ]" in config and pinned(config) == 1
    check_outputs(repository / "fashion" / "1" / "model.onnx", made, np.random.default_rng(3))
    before = (repository / "fashion" / "1").stat()
    assert export("fashion@live", "--format", "triton", "-o", repository)["version"] == 1
    assert (repository / "fashion" / "1").stat().st_mtime_ns == before.st_mtime_ns


def test_triton_numbers_are_never_used_again(wire, export, tmp_path):
    repository = tmp_path / "models"
    runs = [Made(wire, [{"dense": {"out": 10}}], (6,), seed=i) for i in range(4)]
    for i in range(3):
        told = export(runs[i].run, "--format", "triton", "-o", repository, "--name", "m")
        assert told["version"] == i + 1
    for gone in ("2", "3"):
        (repository / "m" / gone / "model.onnx").unlink()
        (repository / "m" / gone).rmdir()
    assert export(runs[3].run, "--format", "triton", "-o", repository, "--name", "m")["version"] == 4
    export("promote", runs[3].run, "m")
    assert "version 1 of m was used" in export("m@1", "--format", "triton", "-o", repository, code=5)
    assert pinned((repository / "m" / "config.pbtxt").read_text()) == 4
    assert "cannot name" in export(runs[0].run, "--format", "triton", "-o", repository, "--name", "../m", code=2)
    (repository / "n" / "1").mkdir(parents=True)
    told = export(runs[0].run, "--format", "triton", "-o", repository, "--name", "n")
    assert told["version"] == 2
    assert "used" in export("m@1", "--format", "triton", "-o", repository, "--name", "n", code=5)


def test_a_reader_never_sees_half_a_version(wire, export, tmp_path):
    repository, seen, wrong, stop = tmp_path / "models", set(), [], threading.Event()
    model = repository / "m"
    runs = [Made(wire, [{"dense": {"out": 200}}, "relu", {"dense": {"out": 10}}], (100,), seed=i) for i in range(12)]

    def look():
        if not repository.exists() or not model.exists():
            return
        names = {p.name for p in model.iterdir()}
        if "config.pbtxt" not in names or not all(n == "config.pbtxt" or n.isdigit() for n in names):
            wrong.append(f"entries {sorted(names)}")
        version = pinned((model / "config.pbtxt").read_text())
        for number in {str(version)} | names - {"config.pbtxt"}:
            onnx.load_model_from_string((model / number / "model.onnx").read_bytes())
            if [p.name for p in (model / number).iterdir()] != ["model.onnx"]:
                wrong.append(f"version {number}")
        if [p.name for p in repository.iterdir()] != ["m"]:
            wrong.append("another directory in the repository")
        seen.add(version)

    def watch():
        while not stop.is_set() and not wrong:
            try:
                look()
            except Exception as e:  # noqa: BLE001
                wrong.append(repr(e))

    reader = threading.Thread(target=watch)
    reader.start()
    try:
        for i, made in enumerate(runs):
            assert export(made.run, "--format", "triton", "-o", repository, "--name", "m")["version"] == i + 1
    finally:
        stop.set()
        reader.join()
    look()
    assert not wrong
    assert len(seen) > 3 and max(seen) == 12


def test_the_evaluator_reads_idx(wire, export, tmp_path):
    made = Made(wire, CNN, (1, 14, 12), [{"scale": 1 / 255}])
    export(made.run, "-o", tmp_path)
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (60, 14, 12)).astype(np.uint8)
    labels = made.expected(images[:, None].astype(np.float32)).argmax(1).astype(np.uint8)
    labels[:15] = (labels[:15] + 1) % 10
    (tmp_path / "i").write_bytes(struct.pack(">IIII", 0x803, 60, 14, 12) + images.tobytes())
    (tmp_path / "l").write_bytes(struct.pack(">II", 0x801, 60) + labels.tobytes())
    done = subprocess.run(["/usr/bin/python3", TOOLS / "run_onnx.py", tmp_path / "model.onnx", tmp_path / "i",
                           tmp_path / "l"], capture_output=True, text=True, check=True)
    assert "accuracy=0.750000 error=0.250000" in done.stdout
