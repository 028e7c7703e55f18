"""The rows of one study in Optuna's tables, written and read with as few statements as there can be.

A trial of ours has its parameters, one value an objective once it has been measured, and one user attribute: the record
when it is finished, and until then the plan, which says what is to be evaluated and who does it. What Optuna shows of
an arch is what it would show of a trial of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from sartor.records import Arch, Option, Record
from sartor.search.objective import Objective, measured
from sartor.space.choice import Choice

if TYPE_CHECKING:
    from sqlalchemy import Connection

RECORD = "sartor.record"
PLAN = "sartor.plan"


class Row(NamedTuple):
    """A trial's one attribute: ``key`` is RECORD or PLAN."""

    trial: int
    key: str
    value: dict[str, Any]


class Trials:
    """The trials of study number ``study``, of ``objectives``; options of ``choices`` are their parameters.

    Every method takes the connection of a transaction, so that what belongs together is committed together.
    """

    def __init__(self, study: int, objectives: Sequence[Objective], choices: Sequence[Choice]):
        import optuna
        from optuna.storages._rdb import models

        self.study = study
        self.objectives = tuple(objectives)
        self._utc = hasattr(models.TrialModel, "_datetime_start_utc")  # Optuna 4 keeps local time, 5 keeps UTC
        self._trials, self._params, self._values, self._attributes = (
            model.__table__
            for model in (
                models.TrialModel,
                models.TrialParamModel,
                models.TrialValueModel,
                models.TrialUserAttributeModel,
            )
        )
        self._finite = models.TrialValueModel.TrialValueType.FINITE
        self._state = optuna.trial.TrialState
        kinds = {choice.name: optuna.distributions.CategoricalDistribution(choice.options) for choice in choices}
        self._distributions = {n: optuna.distributions.distribution_to_json(kind) for n, kind in kinds.items()}
        self._places: dict[str, dict[tuple[type, Option], float]] = {
            c.name: {(type(o), o): kinds[c.name].to_internal_repr(o) for o in c.options} for c in choices
        }

    def rows(self, connection: Connection, after: int) -> Iterator[Row]:
        """Ours, of trials with a number of their own greater than ``after``, in the order they were made."""
        import sqlalchemy

        attributes, trials = self._attributes.c, self._trials.c
        query = (
            sqlalchemy.select(trials.trial_id, attributes.key, attributes.value_json)
            .join_from(self._trials, self._attributes, attributes.trial_id == trials.trial_id)
            .where(trials.study_id == self.study, trials.trial_id > after, attributes.key.in_((RECORD, PLAN)))
            .order_by(trials.trial_id)
        )
        return (Row(trial, key, json.loads(text)) for trial, key, text in connection.execute(query))

    def add(self, connection: Connection, arch: Arch, key: str, value: dict[str, Any]) -> int:
        """A trial that waits, and its number."""
        import sqlalchemy

        trials = self._trials
        last = (
            sqlalchemy.select(trials.c.number)
            .where(trials.c.study_id == self.study)
            .order_by(trials.c.trial_id.desc())
            .limit(1)
        )
        number = connection.execute(last).scalar()
        made = connection.execute(
            trials.insert().values(
                study_id=self.study, number=0 if number is None else number + 1, state=self._state.WAITING
            )
        )
        trial = int(made.inserted_primary_key[0])
        params = [
            {
                "trial_id": trial,
                "param_name": name,
                "param_value": self._places[name][type(option), option],
                "distribution_json": self._distributions[name],
            }
            for name, option in arch.items()
            if name in self._places
        ]
        if params:
            connection.execute(self._params.insert(), params)
        connection.execute(
            self._attributes.insert().values(trial_id=trial, key=key, value_json=json.dumps(value, allow_nan=False))
        )
        return trial

    def begin(self, connection: Connection, trial: int) -> None:
        """It is being evaluated, from now."""
        self._update(connection, trial, state=self._state.RUNNING, datetime_start=self._now(), datetime_complete=None)

    def put_back(self, connection: Connection, trial: int) -> None:
        """It waits again."""
        self._update(connection, trial, state=self._state.WAITING, datetime_start=None)

    def finish(self, connection: Connection, trial: int, record: Record, *, begun: bool) -> None:
        """It has ended with ``record``: complete, or failed where an objective could not be measured."""
        complete = measured(record.metrics, self.objectives)
        now = self._now()
        self._update(
            connection,
            trial,
            state=self._state.COMPLETE if complete else self._state.FAIL,
            datetime_complete=now,
            **({} if begun else {"datetime_start": now}),
        )
        if complete:
            values = [
                {"trial_id": trial, "objective": place, "value": record.metrics[o.metric], "value_type": self._finite}
                for place, o in enumerate(self.objectives)
            ]
            connection.execute(self._values.insert(), values)

    def attribute(self, connection: Connection, trial: int) -> Row | None:
        """The row of ``trial``, as it is now."""
        return next((row for row in self.rows(connection, trial - 1) if row.trial == trial), None)

    def write(self, connection: Connection, trial: int, key: str, value: dict[str, Any]) -> None:
        """Replace the plan of ``trial``."""
        attributes = self._attributes
        connection.execute(
            attributes.update()
            .where(attributes.c.trial_id == trial, attributes.c.key == PLAN)
            .values(key=key, value_json=json.dumps(value, allow_nan=False))
        )

    def _update(self, connection: Connection, trial: int, **values: Any) -> None:
        connection.execute(self._trials.update().where(self._trials.c.trial_id == trial).values(**values))

    def _now(self) -> datetime:
        return datetime.now(timezone.utc).replace(tzinfo=None) if self._utc else datetime.now()
