"""The rows of one study in Optuna's tables, written and read with as few statements as there can be.

A trial of ours has its parameters, one value an objective once it has been measured, and one user attribute: the record
when it is finished, and until then the plan, which says what is to be evaluated and who does it. What Optuna shows of
an arch is what it would show of a trial of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from sartor.records import Arch, Option, Record
from sartor.search.objective import Objective, measured
from sartor.space.choice import Choice

if TYPE_CHECKING:
    from sqlalchemy import Connection, Select

RECORD = "sartor.record"
PLAN = "sartor.plan"


class Row(NamedTuple):
    """A trial's one attribute: ``key`` is RECORD or PLAN. ``trial`` is its number among the trials of all studies."""

    trial: int
    key: str
    value: dict[str, Any]


class Trials:
    """The trials of study number ``study``, of ``objectives``; options of ``choices`` are their parameters.

    Every method takes the connection of a transaction, so that what belongs together is committed together.
    """

    def __init__(self, study: int, objectives: Sequence[Objective], choices: Sequence[Choice]):
        import optuna
        import sqlalchemy
        from optuna.storages._rdb import models

        self.study = study
        self.objectives = tuple(objectives)
        self._utc = hasattr(models.TrialModel, "_datetime_start_utc")  # Optuna 4 keeps local time, 5 keeps UTC
        self._state = optuna.trial.TrialState
        self._finite = models.TrialValueModel.TrialValueType.FINITE
        self._kinds = kinds = {
            choice.name: optuna.distributions.CategoricalDistribution(choice.options) for choice in choices
        }
        self._distributions = {n: optuna.distributions.distribution_to_json(kind) for n, kind in kinds.items()}
        self._places: dict[str, dict[tuple[type, Option], float]] = {
            c.name: {(type(o), o): kinds[c.name].to_internal_repr(o) for o in c.options} for c in choices
        }
        trials, attributes = models.TrialModel.__table__, models.TrialUserAttributeModel.__table__
        values, params = models.TrialValueModel.__table__, models.TrialParamModel.__table__
        # Built once: building a statement takes as long as running it.
        rows = (
            sqlalchemy.select(trials.c.trial_id, attributes.c.key, attributes.c.value_json)
            .join_from(trials, attributes, attributes.c.trial_id == trials.c.trial_id)
            .where(trials.c.study_id == study)
            .order_by(trials.c.trial_id)
        )
        after = trials.c.trial_id > sqlalchemy.bindparam("after")
        self._rows = rows.where(after, attributes.c.key.in_((RECORD, PLAN)))
        self._planned = rows.where(after, attributes.c.key == PLAN)
        self._row = rows.where(trials.c.trial_id == sqlalchemy.bindparam("trial"), attributes.c.key.in_((RECORD, PLAN)))
        last = trials.c.study_id == study
        self._last_number = sqlalchemy.select(trials.c.number).where(last).order_by(trials.c.trial_id.desc()).limit(1)
        self._add_trial, self._add_attribute = trials.insert(), attributes.insert()
        self._add_params, self._add_values = params.insert(), values.insert()
        self._update = trials.update().where(trials.c.trial_id == sqlalchemy.bindparam("trial"))
        self._write = (
            attributes.update()
            .where(attributes.c.trial_id == sqlalchemy.bindparam("trial"), attributes.c.key == PLAN)
            .values(key=sqlalchemy.bindparam("to"), value_json=sqlalchemy.bindparam("text"))
        )

    def rows(self, connection: Connection, after: int) -> list[Row]:
        """Ours, of trials that were made after number ``after`` of all, in the order they were made."""
        return self._found(connection, self._rows, after=after)

    def planned(self, connection: Connection, after: int) -> list[Row]:
        """Those of :meth:`rows` that have not ended."""
        return self._found(connection, self._planned, after=after)

    def row(self, connection: Connection, trial: int) -> Row:
        """That of ``trial``, as it is now."""
        (found,) = self._found(connection, self._row, trial=trial)
        return found

    def plan(self, connection: Connection, arch: Arch, plan: Mapping[str, Any]) -> int:
        """A trial that waits, and its number among all."""
        return self._add(connection, arch, PLAN, plan, {"state": self._state.WAITING})

    def record(self, connection: Connection, record: Record) -> int:
        """A trial that has ended with ``record``, and its number among all."""
        ended = self._ended(record)
        begun = {"datetime_start": ended["datetime_complete"]}
        trial = self._add(connection, record.arch, RECORD, record.to_dict(), {**ended, **begun})
        self._measured(connection, trial, record)
        return trial

    def begin(self, connection: Connection, trial: int, plan: Mapping[str, Any]) -> None:
        """It is being evaluated, from now."""
        connection.execute(self._update.values(state=self._state.RUNNING, datetime_start=self._now()), {"trial": trial})
        self.write(connection, trial, PLAN, plan)

    def put_back(self, connection: Connection, trial: int, plan: Mapping[str, Any]) -> None:
        """It waits again."""
        connection.execute(self._update.values(state=self._state.WAITING, datetime_start=None), {"trial": trial})
        self.write(connection, trial, PLAN, plan)

    def finish(self, connection: Connection, trial: int, record: Record) -> None:
        """It ends with ``record``."""
        connection.execute(self._update.values(**self._ended(record)), {"trial": trial})
        self.write(connection, trial, RECORD, record.to_dict())
        self._measured(connection, trial, record)

    def write(self, connection: Connection, trial: int, key: str, value: Mapping[str, Any]) -> None:
        """Replace the plan of ``trial``."""
        connection.execute(self._write, {"trial": trial, "to": key, "text": json.dumps(value)})

    def _found(self, connection: Connection, query: Select[Any], **at: int) -> list[Row]:
        return [Row(trial, key, json.loads(text)) for trial, key, text in connection.execute(query, at)]

    def _add(
        self, connection: Connection, arch: Arch, key: str, value: Mapping[str, Any], columns: Mapping[str, Any]
    ) -> int:
        number = connection.execute(self._last_number).scalar()
        made = connection.execute(
            self._add_trial, {"study_id": self.study, "number": 0 if number is None else number + 1, **columns}
        ).inserted_primary_key
        assert made is not None
        trial = int(made[0])
        params = [
            {
                "trial_id": trial,
                "param_name": name,
                "param_value": self._place(name, option),
                "distribution_json": self._distributions[name],
            }
            for name, option in arch.items()
            if name in self._places
        ]
        if params:
            connection.execute(self._add_params, params)
        text = json.dumps(value)
        connection.execute(self._add_attribute, {"trial_id": trial, "key": key, "value_json": text})
        return trial

    def _place(self, name: str, option: Option) -> float:
        """Of the option among its choice's; Optuna looks for it one by one."""
        place = self._places[name].get((type(option), option))
        return self._kinds[name].to_internal_repr(option) if place is None else place

    def _ended(self, record: Record) -> dict[str, Any]:
        """Complete, or failed where an objective could not be measured."""
        complete = measured(record.metrics, self.objectives)
        return {"state": self._state.COMPLETE if complete else self._state.FAIL, "datetime_complete": self._now()}

    def _measured(self, connection: Connection, trial: int, record: Record) -> None:
        if measured(record.metrics, self.objectives):
            values = [
                {"trial_id": trial, "objective": place, "value": record.metrics[o.metric], "value_type": self._finite}
                for place, o in enumerate(self.objectives)
            ]
            connection.execute(self._add_values, values)

    def _now(self) -> datetime:
        return datetime.now(timezone.utc).replace(tzinfo=None) if self._utc else datetime.now()
