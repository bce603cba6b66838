"""How a network learns, as a function of the number of photographs."""

import pytest

from running.recipe import (
    FINE_TUNING,
    MOST_EPOCHS,
    MOST_VIEWS,
    SMALLEST_BATCH,
    VIEWED,
    choose_recipe,
    count_head_views,
    count_views,
)

COUNTS = [1, 2, 30, 300, 1000, 1500, 2640, 4096, 6552, 10**6]


@pytest.mark.parametrize("photographs", COUNTS)
def test_fewer_photographs_get_more_epochs_of_smaller_batches_and_more_views(photographs):
    recipe = choose_recipe(photographs, True)
    more = choose_recipe(2 * photographs, True)
    assert recipe.epochs >= more.epochs >= FINE_TUNING.epochs
    assert recipe.batch_size <= more.batch_size <= FINE_TUNING.batch_size
    assert recipe.epochs <= MOST_EPOCHS
    assert recipe.batch_size >= SMALLEST_BATCH
    assert recipe.lr == pytest.approx(4e-4 * (recipe.batch_size / 64) ** 0.5)
    assert 1 <= count_head_views(photographs) <= count_views(photographs) <= MOST_VIEWS
    assert photographs * count_head_views(photographs) <= max(VIEWED, photographs)


def test_a_rich_folder_gets_the_recipe_that_was_made_on_one():
    assert choose_recipe(6552, True) == FINE_TUNING
    assert (count_views(6552), count_head_views(6552)) == (5, 1)


def test_a_folder_of_a_thousand_takes_as_many_steps_as_a_rich_one():
    recipe = choose_recipe(1000, True)
    assert recipe.epochs * 1000 / recipe.batch_size > 5 * 6552 / 64
