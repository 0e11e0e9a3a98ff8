"""Random schedules of a conversation, in simulated time (docs/adr/011-schedules.md).

The real cores of stt, dialog and tts work together in a `world`. What happened is a `record`; the `monitor` judges it.
"""
