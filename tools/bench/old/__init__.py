"""The suite that this one follows, rebuilt to be measured beside it: three services over HTTP.

    speech to text ──▶ preprocessor ──▶ text to speech
         ▲              classify, store, recall, model      │
         └────────────── pause, resume ─────────────────────┘

The engines, models and settings are this suite's own; only what lies around them is as it was: a turn is over after
500 ms of silence and transcribed then, with the full 30 s of context; what was said is stored before it is answered;
20 memories stand at the head of the prompt, so that nothing after them is ever cached; the answer is spoken
when all of it is there, on an output opened for it, after a fixed wait.
"""

END_SILENCE_MS = 500
"""After the last voiced frame a turn is over."""

PAUSE_WAIT_MS = 200
"""Slept after the listener was told to pause, whether or not it has already."""

MEMORIES = 20
"""So many stand at the head of every prompt."""
