import pytest

from ownvision.learning import uncertainty


@pytest.mark.parametrize(
    ("probabilities", "exclusive", "bits"),
    [
        ((0.999999762, 2.38418579e-07), True, 5.589174179476686e-06),  # recorded of the original
        ((0.5, 0.5), True, 1.0),
        ((0.25,) * 4, True, 2.0),
        ((1.0, 0.0), True, 0.0),
        ((0.5, 0.5), False, 2.0),
        ((1.0, 0.0, 0.5), False, 1.0),
    ],
)
def test_the_entropy_of_classes(probabilities: tuple[float, ...], exclusive: bool, bits: float) -> None:
    assert uncertainty.of_classes(probabilities, exclusive=exclusive) == pytest.approx(bits, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize(("probabilities", "bits"), [((), 0.0), ((0.5, 0.99), 1.0), ((1.0, 1.0), 0.0)])
def test_the_entropy_of_boxes_is_that_of_the_most_doubtful(probabilities: tuple[float, ...], bits: float) -> None:
    assert uncertainty.of_boxes(probabilities) == pytest.approx(bits, abs=1e-9)
