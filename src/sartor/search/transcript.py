"""What was asked and answered, on disk: a search that asks a model can be resumed, repeated and tested without it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from sartor.disk import explain, make_dir
from sartor.errors import InputError


class Transcript:
    """``ask`` that remembers: a prompt that is in ``file`` (JSON lines) is answered from there, any other by ``ask``,
    and both are appended. Without ``ask`` it replays, and raises InputError for what was never asked.

    A line is on disk before its answer is returned. A last line that a kill cut short is dropped; any other that cannot
    be read raises InputError. The same prompt has the same answer for ever.
    """

    def __init__(self, file: Path, ask: Callable[[str], str] | None = None):
        self.file = Path(file)
        self._ask = ask
        self._cut = 0  # bytes of a line that a kill cut short: what follows must not be glued to them
        self._answers = self._read()

    def __call__(self, prompt: str) -> str:
        if prompt not in self._answers:
            if self._ask is None:
                raise InputError(
                    f"{self.file} has no answer to this prompt: give what asks the model, to go on from here"
                )
            answer = self._ask(prompt)
            if not isinstance(answer, str):
                raise InputError(f"a model must answer with text, not {type(answer).__name__}")
            self._append(prompt, answer)
            self._answers[prompt] = answer
        return self._answers[prompt]

    def __len__(self) -> int:
        return len(self._answers)

    def _append(self, prompt: str, answer: str) -> None:
        make_dir(self.file.parent)
        line = json.dumps({"prompt": prompt, "answer": answer}, ensure_ascii=True) + "\n"
        try:
            if self._cut:
                os.truncate(self.file, self.file.stat().st_size - self._cut)
                self._cut = 0
            with self.file.open("a", encoding="utf-8") as held:
                held.write(line)
                held.flush()
                os.fsync(held.fileno())
        except OSError as error:
            raise explain(error, self.file) from error

    def _read(self) -> dict[str, str]:
        if not self.file.exists():
            return {}
        try:
            text = self.file.read_bytes()
            whole, _, cut = text.rpartition(b"\n")
            self._cut = len(cut)
            lines = whole.decode("utf-8").splitlines() if whole else []
            entries = [json.loads(line) for line in lines]
            return {str(entry["prompt"]): str(entry["answer"]) for entry in entries}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"cannot read {self.file} ({error}): it is no transcript, choose another file") from error
