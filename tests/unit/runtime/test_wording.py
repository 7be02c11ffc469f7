"""What is wrong is told in one line: where, what was expected, what came."""

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from ccm_runtime.wording import told


class Bound(BaseModel):
    """A group of settings with one of each kind."""

    model_config = ConfigDict(strict=True, extra="forbid")

    rows: Annotated[int, Field(ge=1)] = 1
    kind: Literal["safe", "fast"] = "safe"
    scores: Annotated[list[FiniteFloat], Field(min_length=1, max_length=2)] = [0.0]
    name: str = "a"
    paid: bool = True

    @model_validator(mode="after")
    def _named(self) -> "Bound":
        if not self.name:
            raise ValueError("a name is needed\nto tell it from others")
        return self


class Shape(BaseModel):
    """What a file must hold."""

    model_config = ConfigDict(strict=True)

    bound: Bound


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({}, "bound: expected a value, got none"),
        ([1], "expected a group of settings, got [1]"),
        ({"bound": 3}, "bound: expected a group of settings, got 3"),
        ({"bound": {"rows": "two"}}, "bound.rows: expected an integer, got 'two'"),
        ({"bound": {"rows": 0}}, "bound.rows: expected a number greater than or equal to 1, got 0"),
        ({"bound": {"kind": "saef"}}, "bound.kind: expected 'safe' or 'fast', got 'saef'"),
        ({"bound": {"scores": 1.0}}, "bound.scores: expected a list, for instance [1, 2], got 1.0"),
        ({"bound": {"scores": []}}, "bound.scores: expected a list of 1 or more, got []"),
        ({"bound": {"scores": [1.0] * 3}}, "bound.scores: expected a list of 2 or fewer, got [1.0, 1.0, 1.0]"),
        ({"bound": {"scores": [float("nan")]}}, "bound.scores.0: expected a finite number, got nan"),
        ({"bound": {"paid": "maybe"}}, "bound.paid: expected true or false, got 'maybe'"),
        ({"bound": {"rosw": 1, "rows": "x"}}, "bound.rosw: expected nothing of this name, got 1"),
        ({"bound": {"name": ""}}, "bound: a name is needed to tell it from others, got {'name': ''}"),
    ],
)
def test_a_wrong_value_is_told_in_one_line(tree: object, words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Shape.model_validate(tree)
    assert told(refused.value) == words


def test_of_a_long_value_the_ends_are_told() -> None:
    with pytest.raises(ValidationError) as refused:
        Bound.model_validate({"rows": "x" * 1000})
    assert told(refused.value).startswith("rows: expected an integer, got 'xxx")
    assert len(told(refused.value)) < 150


def test_a_text_that_is_no_json_has_no_place() -> None:
    with pytest.raises(ValidationError) as refused:
        Bound.model_validate_json("{")
    assert told(refused.value).startswith("Invalid JSON: ")
