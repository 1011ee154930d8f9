"""Every argument of every public function, wrong in every way: the right error, out untouched."""

import inspect

import numpy as np
import pytest
from numpy.exceptions import AxisError

import csoftmax.reference as twin

X = np.arange(20.0).reshape(4, 5) / 10
P = twin.softmax(X)
LABELS = np.array([0, 1, 2, 3])

# a valid call of every function that takes arrays; a bad call changes one argument of it
VALID = {
    "softmax": {"x": X},
    "log_softmax": {"x": X},
    "logsumexp": {"x": X},
    "softmax_vjp": {"y": P, "grad": X},
    "softmax_jvp": {"y": P, "grad": X},
    "log_softmax_vjp": {"log_y": np.log(P), "grad": X},
    "softmax_jacobian": {"y": P},
    "cce": {"y": P, "yhat": P},
    "cce_gradient": {"y": P, "yhat": P},
    "cross_entropy": {"logits": X, "target": LABELS},
    "cross_entropy_with_grad": {"logits": X, "target": LABELS},
    "linear_cross_entropy": {"x": X[:, :3], "weight": X.T[:, :3], "target": LABELS},
    "linear_cross_entropy_with_grad": {"x": X[:, :3], "weight": X.T[:, :3], "target": LABELS},
    "log_softmax_gather": {"logits": X, "target": LABELS},
    "softmax_entropy": {"logits": X},
    "log_softmax_topk": {"logits": X, "k": 2},
    "sample_categorical": {"logits": X},
    "one_hot": {"labels": LABELS, "num_classes": 5},
    "to_categorical": {"y": LABELS, "num_classes": 5},
}
FORWARD = ["softmax", "log_softmax", "logsumexp"]
PRODUCTS = ["softmax_vjp", "softmax_jvp", "log_softmax_vjp"]
ENTROPIES = ["cross_entropy", "cross_entropy_with_grad"]
LINEAR = ["linear_cross_entropy", "linear_cross_entropy_with_grad"]
SCORES = ["log_softmax_gather", "softmax_entropy", "log_softmax_topk", "sample_categorical"]
TEMPERED = ["softmax", "log_softmax", *SCORES]
MANY_AXES = [*FORWARD, *PRODUCTS, "cce", "softmax_entropy"]
ONE_AXIS = ["softmax_jacobian", *ENTROPIES, *LINEAR, "one_hot", *SCORES[:1], *SCORES[2:]]
OUT_SHAPES = {"logsumexp": (4,), **dict.fromkeys([*FORWARD[:2], *PRODUCTS, ENTROPIES[1]], (4, 5))}


def full(shape, dtype=np.float64):
    return np.full(shape, 7, dtype)


def frozen(shape):
    a = full(shape)
    a.flags.writeable = False
    return a


def not_real(shape):
    """Arrays of dtypes that are not numbers on the real line, each with the dtype's name."""
    return [
        (np.zeros(shape, complex), "complex128"),
        (np.zeros(shape, "U3"), "<U3"),
        (np.zeros(shape, object), "object"),
        (np.zeros(shape, "M8[D]"), "datetime64[D]"),
        (np.zeros(shape, "m8[s]"), "timedelta64[s]"),
        (np.zeros(shape, [("a", "f8")]), "'a'"),
    ]


def cases():
    """(function, argument, bad value, exception, what else the message says)."""
    for function, argument in [
        *((f, "x") for f in FORWARD),
        *((f, a) for f in [*PRODUCTS[:2], "softmax_jacobian"] for a in VALID[f]),
        *((f, a) for f in ["log_softmax_vjp", "cce", "cce_gradient"] for a in VALID[f]),
        *((f, "logits") for f in [*ENTROPIES, *SCORES]),
        *((f, a) for f in LINEAR for a in ("x", "weight")),
        ("to_categorical", "y"),
    ]:
        shape = np.shape(VALID[function][argument])
        for bad, says in not_real(shape):
            yield function, argument, bad, TypeError, says
        yield function, argument, None, TypeError, "object"
        yield function, argument, "text", TypeError, "U4"

    for function in MANY_AXES:
        yield function, "axis", 2, AxisError, "2"
        yield function, "axis", -3, AxisError, "-3"
        yield function, "axis", (0, 2), AxisError, "2"
        yield function, "axis", (1, -1), ValueError, "(1, -1)"
        yield function, "axis", 1.0, TypeError, "1.0"
        yield function, "axis", "0", TypeError, "'0'"
        yield function, "axis", (0, 1.5), TypeError, "1.5"
    for function in ONE_AXIS:
        yield function, "axis", 2, AxisError, "2"
        yield function, "axis", -3, AxisError, "-3"
        yield function, "axis", None, TypeError, "None"
        yield function, "axis", (0,), TypeError, "(0,)"
        yield function, "axis", 1.0, TypeError, "1.0"

    for function in FORWARD:
        for dtype in ("int64", "complex128", "bool", "object", "U5"):
            yield function, "dtype", dtype, TypeError, dtype
        yield function, "dtype", "nonsense", TypeError, "nonsense"
        yield function, "where", np.ones((4, 5)), TypeError, "float64"
        yield function, "where", np.ones((4, 5), int), TypeError, "int64"
        yield function, "where", "yes", TypeError, "U3"
        yield function, "where", np.ones((5, 4), bool), ValueError, "(5, 4)"
        yield function, "where", np.ones((2, 4, 5), bool), ValueError, "(2, 4, 5)"
    for function in TEMPERED:
        for bad in ("1", None, 1j, [1.0], True, np.array(2.0)):
            yield function, "temperature", bad, TypeError, repr(bad)
        for bad in (0, 0.0, -1, np.nan, np.inf, -np.inf, np.float32(-2)):
            yield function, "temperature", bad, ValueError, repr(bad)
    for bad in (1.0, "1", None, [1], True, np.array(1)):
        yield "log_softmax_topk", "k", bad, TypeError, repr(bad)
    for bad in (0, -1, 6, 2**70):
        yield "log_softmax_topk", "k", bad, ValueError, f"{bad}: expected at least 1 and at most 5"
    for bad in (1.0, "1", [1], True, (1, 2.0), np.array(1)):
        yield "sample_categorical", "size", bad, TypeError, repr(bad)
    for bad in (-1, (2, -3)):
        yield "sample_categorical", "size", bad, ValueError, repr(bad)
    for bad in (1.0, "1", [1], True, np.random, np.random.RandomState(0)):
        yield "sample_categorical", "rng", bad, TypeError, "expected None, a seed"
    yield "sample_categorical", "rng", -1, ValueError, "-1: expected None, a seed"
    for bad in (np.nan, np.inf):
        yield "sample_categorical", "logits", np.add(X, [0, 0, bad, 0, 0]), ValueError, "logits[0]"
    yield "sample_categorical", "logits", X - [[0], [0], [np.inf], [0]], ValueError, "logits[2]"
    yield "sample_categorical", "logits", np.ones((4, 0)), ValueError, "(4, 0)"

    for bad in ("yes", None, 2, 1.0):
        yield "logsumexp", "keepdims", bad, TypeError, repr(bad)

    for function in [*PRODUCTS, "cce", "cce_gradient"]:
        second = list(VALID[function])[1]
        for shape in ((5, 4), (5,), (4, 1), (1, 4, 5), ()):
            yield function, second, np.ones(shape), ValueError, str(shape)

    for function, shape in OUT_SHAPES.items():
        for wrong in ((5, 4), (4, 6), (1, *shape), ()):
            yield function, "out", full(wrong), ValueError, str(wrong)
        for dtype in ("float32", "int64", "complex128", "object"):
            yield function, "out", full(shape, dtype), TypeError, dtype
        yield function, "out", frozen(shape), ValueError, "read-only"
        yield function, "out", full(shape).tolist(), TypeError, "list"
        yield function, "out", (full(shape),), TypeError, "tuple"

    for function in LINEAR:
        for shape in ((4, 4), (4,), (0,), (1, 4, 4)):
            yield function, "x", np.ones(shape), ValueError, "(5, 3)"
        for shape in ((5, 4), (3, 5), (3,), (), (1, 5, 3)):
            yield function, "weight", np.ones(shape), ValueError, str(shape)
        for shape in ((4,), (1,), (5, 1), (1, 5), ()):
            yield function, "bias", np.ones(shape), ValueError, str(shape)
        for bad, says in not_real((5,)):
            yield function, "bias", bad, TypeError, says
        for bad in (1.0, "1", [1], True):
            yield function, "block_size", bad, TypeError, repr(bad)
        for bad in (0, -1):
            yield function, "block_size", bad, ValueError, str(bad)
    for bad in (None, 1, ["x", 1], [None]):
        yield LINEAR[1], "wrt", bad, TypeError, repr(bad)
    for bad in ("logits", "", ("x", "weigth"), ["bias "]):
        yield LINEAR[1], "wrt", bad, ValueError, repr(bad)

    for function in [*ENTROPIES, *LINEAR, "log_softmax_gather"]:
        for label, position in ((5, 3), (-1, 0), (-100, 2), (2**40, 1)):
            bad = LABELS.copy()
            bad[position] = label
            yield function, "target", bad, IndexError, f"target[{position}] is {label}"
        yield function, "target", np.array([0, 0, 255, 0], "uint8"), IndexError, "[0, 5)"
        yield function, "target", np.array([0, 2**64 - 1, 0, 0], "uint64"), IndexError, "target[1]"
        for shape in ((3,), (5,), (4, 1), (4, 5), (1, 4), ()):
            yield function, "target", np.zeros(shape, int), ValueError, str(shape)
        for bad, says in not_real((4,)):
            yield function, "target", bad, TypeError, says
        yield function, "target", np.zeros(4, bool), TypeError, "bool"
        yield function, "target", None, TypeError, "object"
        if function == "log_softmax_gather":
            yield function, "target", np.zeros((4, 5)), TypeError, "float64"
            continue
        for shape in ((4,), (5, 4), (5,), (4, 1), (1, 4, 5), ()):
            yield function, "target", np.zeros(shape), ValueError, str(shape)

        for shape in ((4,), (6,), (1, 5), (5, 1), (4, 5), ()):
            yield function, "class_weight", np.ones(shape), ValueError, str(shape)
        for bad, says in not_real((5,)):
            yield function, "class_weight", bad, TypeError, says
        for shape in ((5,), (3,), (4, 1), (4, 5), (1, 4)):
            yield function, "sample_weight", np.ones(shape), ValueError, str(shape)
        for bad, says in not_real((4,)):
            yield function, "sample_weight", bad, TypeError, says

        for bad in (1.0, "1", [1], True, np.array([1])):
            yield function, "ignore_index", bad, TypeError, repr(bad)
        for bad in (-0.1, 1.1, np.nan, np.inf, 2):
            yield function, "label_smoothing", bad, ValueError, repr(bad)
        for bad in ("0.1", None, 1j, [0.1], np.array([0.1])):
            yield function, "label_smoothing", bad, TypeError, repr(bad)
        for bad in ("avg", "", "Mean"):
            yield function, "reduction", bad, ValueError, repr(bad)
        for bad in (None, 1, ["mean"]):
            yield function, "reduction", bad, TypeError, repr(bad)

    for label, position in ((5, 3), (-1, 0)):
        bad = LABELS.copy()
        bad[position] = label
        yield "one_hot", "labels", bad, IndexError, f"labels[{position}] is {label}"
    for bad, says in not_real((4,)):
        yield "one_hot", "labels", bad, TypeError, says
    yield "one_hot", "labels", LABELS + 0.0, TypeError, "float64"
    yield "one_hot", "labels", LABELS > 1, TypeError, "bool"
    for dtype in ("U5", "object", "M8[D]", "nonsense"):
        yield "one_hot", "dtype", dtype, TypeError, ""
    for function in ("one_hot", "to_categorical"):
        for bad in (5.0, "5", [5], True):
            yield function, "num_classes", bad, TypeError, repr(bad)
        yield function, "num_classes", -1, ValueError, "-1"
    yield "one_hot", "num_classes", 0, ValueError, "0"
    yield "to_categorical", "y", [0, 5], IndexError, "y[1] is 5"
    yield "to_categorical", "y", [[0, 1], [-6, 2]], IndexError, "y[1, 0] is -6"


CASES = list(cases())


def case_name(case):
    function, argument, _, exception, says = case
    return f"{function}-{argument}-{exception.__name__}-{says}"


@pytest.mark.parametrize("case", CASES, ids=map(case_name, CASES))
def test_bad_argument(csm, case):
    function, argument, bad, exception, says = case
    call = {**VALID[function], argument: bad}
    if function in OUT_SHAPES:
        call.setdefault("out", full(OUT_SHAPES[function]))
    with pytest.raises(exception) as caught:
        getattr(csm, function)(**call)
    assert caught.type is exception
    message = str(caught.value)
    assert argument in message
    assert says in message
    assert "\n" not in message
    out = call.get("out")
    if isinstance(out, np.ndarray):
        assert np.all(out == 7)


def test_table_covers_every_argument():
    covered = {(function, argument) for function, argument, *_ in CASES}
    for function in VALID:
        for argument in inspect.signature(getattr(twin, function)).parameters:
            assert (function, argument) in covered


def test_public_functions_and_signatures_are_the_twins(csm):
    assert set(twin.__all__) == set(VALID)
    for function in VALID:
        got = inspect.signature(getattr(csm, function)).parameters
        want = inspect.signature(getattr(twin, function)).parameters
        assert list(got) == list(want)
        for name in want:
            assert got[name].kind == want[name].kind
            assert got[name].default == want[name].default


@pytest.mark.parametrize("function", [*ENTROPIES, *LINEAR])
def test_ignore_index_needs_labels(csm, function):
    call = {**VALID[function], "target": P}
    with pytest.raises(ValueError, match="ignore_index is 1"):
        getattr(csm, function)(**call, ignore_index=1)


@pytest.mark.parametrize("function", [*FORWARD, "softmax_jacobian", *ENTROPIES, *LINEAR, *SCORES])
def test_a_scalar_has_no_last_axis(csm, function):
    first, *others = VALID[function]
    call = {first: 1.0, **{name: np.zeros((1, 1), int) for name in others if name != "k"}}
    call |= {"k": 1} if "k" in others else {}
    with pytest.raises(AxisError, match="axis -1"):
        getattr(csm, function)(**call)


def test_empty_labels_do_not_tell_the_number_of_classes(csm):
    for function in ("one_hot", "to_categorical"):
        with pytest.raises(ValueError, match="num_classes"):
            getattr(csm, function)(np.empty(0, int))


def test_a_bad_label_is_found_anywhere(csm):
    """At any position, in any label layout, beside ignored ones; the gradient stays unwritten."""
    logits = np.zeros((3, 5, 70), np.float32)
    for sample in ((0, 0), (1, 33), (2, 69)):
        labels = np.full((3, 70), -100)
        labels[sample] = 5
        for laid in (labels, np.asfortranarray(labels), labels.astype(">i2")):
            out = full(logits.shape, np.float32)
            with pytest.raises(IndexError) as caught:
                csm.cross_entropy_with_grad(logits, laid, axis=1, ignore_index=-100, out=out)
            assert str(caught.value).startswith(f"target[{sample[0]}, {sample[1]}] is 5")
            assert np.all(out == 7)


def test_a_scalar_label_is_named_without_position(csm):
    with pytest.raises(IndexError, match=r"^target is 9: expected a label in \[0, 3\)"):
        csm.cross_entropy(np.zeros(3), 9)


def test_no_class_has_no_label(csm):
    with pytest.raises(IndexError, match=r"target\[0\] is 0"):
        csm.cross_entropy(np.empty((2, 0)), np.zeros(2, int))


def test_wrong_number_of_threads(compiled):
    before = compiled.get_num_threads()
    for bad, exception in ((1.0, TypeError), ("2", TypeError), (None, TypeError), (0, ValueError)):
        with pytest.raises(exception, match=repr(bad)):
            compiled.set_num_threads(bad)
        with pytest.raises(exception, match=repr(bad)), compiled.threads(bad):
            pass
    assert compiled.get_num_threads() == before
