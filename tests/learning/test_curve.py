from ownvision.learning.curve import Point, thinned


def test_a_long_course_is_told_in_few_points_with_every_hold_out() -> None:
    points: list[Point] = []
    for step in range(5_000):
        points = thinned([*points, Point(step, 5_000, 1.0, 0.5 if step % 1_000 == 999 else None)], 50)
        assert len(points) <= 50
    assert [point.step for point in points if point.hold_out is not None] == [999, 1_999, 2_999, 3_999, 4_999]
    assert points[0].step == 0
    assert [point.step for point in points] == sorted(point.step for point in points)


def test_more_hold_outs_than_points_lose_the_oldest() -> None:
    points = [Point(step, 10, None, 0.5) for step in range(10)]
    assert [point.step for point in thinned(points, 4)] == [6, 7, 8, 9]
