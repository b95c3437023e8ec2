from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from overseer_training.training.batches import Schedule, split_by_tokens
from overseer_training.training.layout import padded_length


@given(st.integers(1, 300), st.integers(1, 64), st.integers(1, 4), st.integers(0, 99))
def test_every_row_is_seen_once_an_epoch(rows: int, batch: int, epochs: int, seed: int) -> None:
    schedule = Schedule(rows, batch, epochs, None, seed)
    for epoch in range(epochs):
        steps = range(epoch * schedule.steps_per_epoch, (epoch + 1) * schedule.steps_per_epoch)
        seen = [row for step in steps for row in schedule.rows_of_step(step)]
        assert sorted(seen) == list(range(rows))


def test_each_part_of_an_epoch_has_its_share_of_every_neighbourhood() -> None:
    schedule = Schedule(64 * 50, 16, 1, None, 7)
    an_eighth = {row for step in range(schedule.steps_per_epoch // 8) for row in schedule.rows_of_step(step)}
    shares = [sum(row // 64 == family for row in an_eighth) for family in range(50)]
    assert shares == [8] * 50


def test_order_depends_on_seed_and_epoch() -> None:
    orders = {tuple(Schedule(50, 50, 2, None, seed).rows_of_step(step)) for seed in (1, 2) for step in (0, 1)}
    assert len(orders) == 4


@given(st.lists(st.integers(1, 200), min_size=1, max_size=80), st.integers(1, 2000))
def test_micro_batches_hold_the_same_rows_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = split_by_tokens(range(len(lengths)), lengths, budget)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        padded = padded_length(max(lengths[row] for row in batch)) * len(batch)
        assert padded <= budget or len(batch) == 1


@given(st.lists(st.integers(1, 200), min_size=1, max_size=80), st.integers(1, 2000))
def test_packed_micro_batches_are_as_few_as_the_budget_allows(lengths: list[int], budget: int) -> None:
    batches = split_by_tokens(range(len(lengths)), lengths, budget, are_packed=True)
    widths = [padded_length(length) for length in lengths]
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(sum(widths[row] for row in batch) <= budget or len(batch) == 1 for batch in batches)
    if sum(widths) <= budget:
        assert len(batches) == 1
