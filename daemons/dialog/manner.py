"""How a conversation is held."""

from __future__ import annotations

from dataclasses import dataclass

from daemons.dialog.clauses import CLAUSE_WORDS


@dataclass(frozen=True, slots=True)
class Manner:
    """Settings of its turns, by their names in [dialog] of timmy.toml."""

    early_work: bool = True
    foresight: bool = True
    first_clause_words: int = CLAUSE_WORDS[0]
